"""Times the server beside a gRPC server without features and beside onnxruntime alone: medians over rounds, ratios.

    python -m tests.benchmarks.bench_serving [ROUNDS]

Needs h2load (Debian: apt-get install nghttp2-client). Client and servers share the machine; rounds alternate between
the servers, so that a busy machine slows all of them.
"""

import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import numpy as np
import onnxruntime

from protos.digits.v1.digits_pb2 import ClassifyRequest, ClassifyResponse
from serving.idx import read_images
from serving.pixels import Images
from tests.benchmarks.h2load import Load, Measured, measure
from tests.programs import ROOT, server_process
from tests.serving.conftest import MNIST, VERSIONS, Publisher

LOADS = (Load(1, 1, 1), Load(64, 1, 8), Load(8, 32, 8), Load(4, 256, 4))
ROUNDS = 5
ROUND_S = 3
MODEL = VERSIONS / "1" / "model.onnx"


@contextmanager
def ours() -> Iterator[int]:
    """Our server, with its defaults; gives the port."""
    with TemporaryDirectory() as folder:
        publisher = Publisher(Path(folder) / "repository")
        publisher.publish(1)
        with server_process(publisher.root, Path(folder) / "log", "--provider", "cpu") as server:
            yield int(server.address.rsplit(":", 1)[1])


@contextmanager
def plain(kind: str) -> Iterator[int]:
    """The server without features; gives the port."""
    command = [sys.executable, "-m", "tests.benchmarks.plain_server", kind, str(MODEL)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(process.stdout.readline() if process.stdout else "")
        finally:
            process.kill()


def model_alone(images: Images, image_count: int) -> float:
    """Calls a second of onnxruntime in this process, one thread, nothing around it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(MODEL), options, providers=["CPUExecutionProvider"])
    batch = images[:image_count]
    began, calls = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - began) < 1:
        session.run(["logits", "probabilities"], {"images": batch})
        calls += 1
    return calls / elapsed


def check(port: int, images: Images) -> None:
    """Demand the right number of answers: a server that refuses is fast too."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        method: Any = channel.unary_unary("/digits.v1.DigitService/Classify")
        for count in {load.image_count for load in LOADS}:
            request = ClassifyRequest(image_count=count, pixels=images[:count].tobytes())
            response = ClassifyResponse.FromString(method(request.SerializeToString(), timeout=10))
            if len(response.digits) != count:
                raise RuntimeError(f"the server on port {port} gave {len(response.digits)} answers for {count} images")


def cell(rounds: list[Measured]) -> str:
    """Medians over rounds: calls a second, and latencies."""
    rate, p50, p99 = (
        statistics.median(getattr(one, name) for one in rounds) for name in ("calls_per_s", "p50_ms", "p99_ms")
    )
    return f"{rate:,.0f} ({p50:.2f}, {p99:.2f})"


def row(load: Load, ports: Mapping[str, int], images: Images, rounds: int) -> str:
    """Measure one load on every server, in turn, and put it into words."""
    results: dict[str, list[Measured]] = {name: [] for name in ports}
    for _ in range(rounds):
        for name, port in ports.items():
            results[name].append(measure(port, load, images, duration_s=ROUND_S))
    rates = {name: statistics.median(one.calls_per_s for one in result) for name, result in results.items()}
    ratio = rates["ours"] / max(rate for name, rate in rates.items() if name != "ours")
    cells = [*map(cell, results.values()), f"{model_alone(images, load.image_count):,.0f}", f"{ratio:.2f}"]
    return f"| {load} | {' | '.join(cells)} |"


def machine() -> str:
    """What it was measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.machine())
    versions = f"Python {platform.python_version()}, grpcio {grpc.__version__}, onnxruntime {onnxruntime.__version__}"
    return f"{os.cpu_count()} cores ({cpu}) shared with the client; {versions}"


def main(rounds: int) -> None:
    """Print one row a load."""
    if shutil.which("h2load") is None:
        sys.exit("h2load is not installed: apt-get install nghttp2-client")
    images = np.ascontiguousarray(read_images(MNIST / "t10k-images-idx3-ubyte.gz")[:1000])
    with ExitStack() as stack:
        servers = {"ours": ours(), "plain asyncio": plain("asyncio"), "plain threads": plain("threads")}
        ports = {name: stack.enter_context(server) for name, server in servers.items()}
        for port in ports.values():
            check(port, images)
        columns = [
            "load",
            *(f"{name}, calls/s (p50, p99 ms)" for name in ports),
            "onnxruntime alone",
            "ours : better plain",
        ]
        print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
        for load in LOADS:
            print(row(load, ports, images, rounds), flush=True)
    print(f"\n{rounds} rounds of {ROUND_S} s; callers x images a call; {machine()}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)
