"""The model in MLServer, over its V2 protocol: REST with JSON, and gRPC with raw tensors.

    python -m tests.benchmarks.peers.mlserver_server MODEL PORT rest|grpc single|batching

As its documentation advises: no debugging, and no parallel workers, since a light model costs less than the way to
another process. Metrics and compression are off. Its REST knows no binary tensors.
"""

import asyncio
import sys
from pathlib import Path

import uvloop
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from tests.benchmarks.model import load

MAX_BATCH_CALLS = 64
MAX_WAIT_S = 0.001


class Digits(MLModel):  # type: ignore[misc]  # MLServer is installed in an environment of its own
    """Runs the model in the event loop."""

    async def load(self) -> bool:
        """Load the model."""
        self.model = load(Path(sys.argv[1]))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Classify the images of one request, which may be a batch of several calls."""
        probabilities = self.model(NumpyCodec.decode_input(payload.inputs[0]))
        output = NumpyCodec.encode_output("probabilities", probabilities)
        return InferenceResponse(model_name=self.name, outputs=[output])


async def serve(port: int, *, grpc: bool, batching: bool) -> None:
    """Serve until told to stop; what is not asked gets a port that nobody knows."""
    settings = Settings(
        debug=False,
        host="127.0.0.1",
        http_port=0 if grpc else port,
        grpc_port=port if grpc else 0,
        parallel_workers=0,
        metrics_endpoint=None,
        gzip_enabled=False,
        load_models_at_startup=False,
    )
    batches = {"max_batch_size": MAX_BATCH_CALLS, "max_batch_time": MAX_WAIT_S} if batching else {}
    await MLServer(settings).start([ModelSettings(name="digits", implementation=Digits, **batches)])


if __name__ == "__main__":
    port, transport, mode = sys.argv[2:]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(port), grpc=transport == "grpc", batching=mode == "batching"))
