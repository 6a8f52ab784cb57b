"""How a model version answers: it loads what the pipeline published and serves it over gRPC."""
