"""gRPC, gRPC-Web, HTTP/JSON and files on one port. Knows nothing of models: it hands over bytes and takes bytes."""
