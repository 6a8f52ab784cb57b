"""The model in LitServe, over HTTP/1.1: the body is the pixels, the answer is the probabilities, float32.

    python -m tests.benchmarks.peers.litserve_server MODEL PORT single|batching

As its documentation advises above a hundred calls a second: `fast_queue`. Bytes go in and out through FastAPI's own
types, since JSON would cost more.
"""

import sys
from pathlib import Path
from typing import Annotated

import litserve
from fastapi import Body, Response

from tests.benchmarks.model import Images, Probabilities, from_bytes, load, run_together

MAX_BATCH_CALLS = 64
MAX_WAIT_S = 0.001


class One(litserve.LitAPI):  # type: ignore[misc]  # LitServe is installed in an environment of its own
    """Runs the model for each call."""

    def setup(self, device: str) -> None:
        """Load the model in the process that runs it."""
        self.model = load(Path(sys.argv[1]))

    def decode_request(self, request: Annotated[bytes, Body()]) -> Images:
        """From the body of a request to images."""
        return from_bytes(request)

    def predict(self, x: Images) -> Probabilities:
        """Classify the images of one call."""
        return self.model(x)

    def encode_response(self, output: Probabilities) -> Response:
        """From probabilities to the body of an answer."""
        return Response(output.tobytes(), media_type="application/octet-stream")


class Many(One):
    """Runs the model for all calls of a batch."""

    def batch(self, inputs: list[Images]) -> list[Images]:
        """Keep the calls apart: `predict` must know which image belongs to which."""
        return inputs

    def predict(self, x: list[Images]) -> list[Probabilities]:  # type: ignore[override]  # what `batch` gave
        """Classify the images of several calls."""
        return run_together(self.model, x)

    def unbatch(self, output: list[Probabilities]) -> list[Probabilities]:
        """Give each call its part."""
        return output


if __name__ == "__main__":
    batching = sys.argv[3] == "batching"
    api = Many(max_batch_size=MAX_BATCH_CALLS, batch_timeout=MAX_WAIT_S) if batching else One()
    server = litserve.LitServer(api, accelerator="cpu", fast_queue=True)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", generate_client_file=False)
