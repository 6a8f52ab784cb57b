"""How a model version answers: it loads what the pipeline published and serves it over gRPC."""

import os

# onnxruntime's wheels for Linux tell Microsoft of sessions unless told not to, before they load (since 1.29). A service
# that people run themselves calls nobody.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
