"""A replica that says it is healthy, counts the calls that it begins, and ends each its way.

`python -m tests.serving.replica FOLDER WAY` prints its port. WAY: it `dies` in the middle of a call, `fails` each as a
server with a fault, or `sleeps`.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


def main(folder: Path, way: str) -> None:
    """Serve for ever."""

    def answer(_request: bytes, context: grpc.ServicerContext) -> bytes:
        with (folder / "begun").open("a") as begun:
            begun.write(f"{way}\n")
        if way == "dies":
            os._exit(1)
        if way == "sleeps":
            time.sleep(60)
        context.abort(grpc.StatusCode.INTERNAL, "a fault")

    server = grpc.server(ThreadPoolExecutor(8))
    handler: Any = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("digits.v1.DigitService", {"Classify": handler}),)
    )
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
