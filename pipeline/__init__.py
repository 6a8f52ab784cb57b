"""How a model version comes to be: fetch, check, train, calibrate, evaluate, export, verify, publish."""

import os

# Read by OpenMP as torch loads, so it stands before every import. Threads that wait for one another look at each other
# 300,000 times before they sleep; where another program wants the core as well, such as the service that the model is
# for, a training then took twenty times as long (docs/adr/0004).
if "OMP_WAIT_POLICY" not in os.environ:  # which says the same more coarsely
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# onnxruntime's wheels for Linux tell Microsoft of sessions unless told not to (since 1.29), as in serving.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# Prefect's temporary server, and whatever else listens on this machine, is not to be found behind a proxy.
if (_others := os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")) != "*":
    _others = ",".join(filter(None, (_others, "127.0.0.1", "localhost", "::1")))
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = _others
