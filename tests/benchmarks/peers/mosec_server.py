"""The model in mosec, over HTTP: the body is the pixels, the answer is the probabilities, float32.

    python -m tests.benchmarks.peers.mosec_server MODEL PORT single|batching

As its documentation advises: bytes instead of JSON, one stage, since a second one would copy every image to another
process, and a wait that is shorter than a batch takes. A wait of 1 ms is the shortest that mosec knows.
"""

import os
import sys
from pathlib import Path

from mosec import Server, Worker

from tests.benchmarks.model import Images, Probabilities, from_bytes, load, run_together

MAX_BATCH_CALLS = 64
MAX_WAIT_MS = 1


class One(Worker):  # type: ignore[misc]  # mosec is installed in an environment of its own
    """Runs the model for each call."""

    resp_mime_type = "application/octet-stream"

    def __init__(self) -> None:
        self.model = load(Path(sys.argv[1]))

    def deserialize(self, data: bytes) -> Images:
        """From the body of a request to images."""
        return from_bytes(data)

    def forward(self, data: Images) -> Probabilities:
        """Classify the images of one call."""
        return self.model(data)

    def serialize(self, data: Probabilities) -> bytes:
        """From probabilities to the body of an answer."""
        return data.tobytes()


class Many(One):
    """Runs the model for all calls of a batch."""

    def forward(self, data: list[Images]) -> list[Probabilities]:  # type: ignore[override]  # mosec gives a list
        """Classify the images of several calls."""
        return run_together(self.model, data)


if __name__ == "__main__":
    os.environ |= {"MOSEC_ADDRESS": "127.0.0.1", "MOSEC_PORT": sys.argv[2], "MOSEC_LOG_LEVEL": "warning"}
    server = Server()
    if sys.argv[3] == "batching":
        server.append_worker(Many, max_batch_size=MAX_BATCH_CALLS, max_wait_time=MAX_WAIT_MS)
    else:
        server.append_worker(One)
    server.run()
