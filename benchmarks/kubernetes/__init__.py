"""What the rows about Kubernetes stand on: an API server, stand-ins for its nodes, the operator."""
