"""Load by h2load (Debian's nghttp2-client): an HTTP/2 client in C, so that the client costs little of the machine."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from protos.digits.v1.digits_pb2 import ClassifyRequest
from serving.pixels import Images

PATH = "/digits.v1.DigitService/Classify"


@dataclass(frozen=True)
class Load:
    """So many callers, each with one call in flight, each call with so many images."""

    callers: int
    image_count: int
    connections: int

    def __str__(self) -> str:
        return f"{self.callers} x {self.image_count}"


@dataclass(frozen=True)
class Measured:
    """What one round gave."""

    calls_per_s: float
    p50_ms: float
    p99_ms: float


def body(images: Images) -> bytes:
    """A Classify request as it stands in an HTTP/2 DATA frame: one byte, the length, the message (gRPC over HTTP/2)."""
    message = ClassifyRequest(image_count=len(images), pixels=images.tobytes()).SerializeToString()
    return b"\x00" + len(message).to_bytes(4, "big") + message


def measure(port: int, load: Load, images: Images, *, duration_s: int) -> Measured:
    """Load the server on `port` for `duration_s` and a warm-up of half a second."""
    with TemporaryDirectory() as folder:
        request, log = Path(folder) / "request", Path(folder) / "log"
        request.write_bytes(body(images[: load.image_count]))
        command = [
            *(
                "h2load",
                f"--clients={load.connections}",
                f"--max-concurrent-streams={load.callers // load.connections}",
            ),
            *(
                f"--duration={duration_s}",
                "--warm-up-time=500ms",
                "--threads=1",
                f"--data={request}",
                f"--log-file={log}",
            ),
            *("--header=content-type: application/grpc", "--header=te: trailers", f"http://127.0.0.1:{port}{PATH}"),
        ]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rate = re.search(r"finished in .*?, ([\d.]+) req/s", done.stdout)
        failed = re.search(r"(\d+) failed", done.stdout)
        if rate is None or failed is None or int(failed[1]):
            raise RuntimeError(f"h2load failed: {done.stdout}")
        times_us = np.loadtxt(log, usecols=2, ndmin=1)
    p50, p99 = np.percentile(times_us, [50, 99]) / 1000
    return Measured(float(rate[1]), float(p50), float(p99))
