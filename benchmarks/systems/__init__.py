"""The systems that are compared: each starts its servers and runs tasks through them."""
