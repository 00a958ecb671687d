"""The rows: one module each, with ``measure(setup) -> list[Figure]``."""
