"""A gRPC server with the same model and nothing else: no batching, no checks, no versions. What grpcio itself can do.

    python -m tests.benchmarks.plain_server threads|asyncio MODEL

Prints its port. `threads` is grpcio's thread pool, `asyncio` its event loop on uvloop.
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import uvloop

from protos.digits.v1.digits_pb2 import ClassifyRequest, ClassifyResponse
from tests.benchmarks.model import from_bytes, load

THREADS = 4


class Plain:
    """Runs the model for each call, where the call arrives."""

    def __init__(self, model: Path) -> None:
        self._run = load(model)

    def classify(self, request: ClassifyRequest, _context: object = None) -> ClassifyResponse:
        """Classify the images of one call."""
        probabilities = self._run(from_bytes(request.pixels))
        return ClassifyResponse(
            digits=probabilities.argmax(axis=1).tolist(), probabilities=probabilities.ravel().tolist(), model_version=1
        )

    async def classify_async(self, request: ClassifyRequest, context: object) -> ClassifyResponse:
        """Classify in the event loop."""
        return self.classify(request, context)


def add(server: grpc.Server | grpc.aio.Server, handler: object) -> int:
    """Register Classify and take a free port."""
    method = grpc.unary_unary_rpc_method_handler(
        handler,  # type: ignore[arg-type]
        request_deserializer=ClassifyRequest.FromString,
        response_serializer=ClassifyResponse.SerializeToString,
    )
    generic = grpc.method_handlers_generic_handler("digits.v1.DigitService", {"Classify": method})
    server.add_generic_rpc_handlers([generic])
    return server.add_insecure_port("127.0.0.1:0")


def serve_with_threads(plain: Plain) -> None:
    """Serve until killed."""
    server = grpc.server(ThreadPoolExecutor(THREADS), options=[("grpc.so_reuseport", 0)])
    port = add(server, plain.classify)
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


async def serve_with_asyncio(plain: Plain) -> None:
    """Serve until killed."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    port = add(server, plain.classify_async)
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    kind, path = sys.argv[1:]
    if kind == "threads":
        serve_with_threads(Plain(Path(path)))
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve_with_asyncio(Plain(Path(path))))
