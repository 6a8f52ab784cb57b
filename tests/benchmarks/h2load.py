"""Load by h2load (Debian's nghttp2-client), a client in C, so that the client costs little of the machine.

`measure` is a closed loop: every caller waits for its answer and calls again. `measure_paced` is an open loop: calls
are sent by the clock, whether or not earlier ones were answered.
"""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from serving.pixels import Images
from tests.benchmarks.protocols import Protocol

CONNECTIONS = 8
WARM_UP = "500ms"
CLIENT_PERIOD_S = 0.02
LATE_MS = 1.0


@dataclass(frozen=True)
class Load:
    """So many callers, each with one call in flight, each call with so many images."""

    callers: int
    image_count: int

    @property
    def connections(self) -> int:
        """Over HTTP/2, callers share connections; over HTTP/1.1 each has its own."""
        return min(self.callers, CONNECTIONS)

    def __str__(self) -> str:
        return f"{self.callers} x {self.image_count}"


@dataclass(frozen=True)
class Measured:
    """What one round of a closed loop gave."""

    calls_per_s: float
    p50_ms: float
    p99_ms: float
    call_count: int
    """All calls, those of the warm-up too: what a server's own costs are divided by."""


@dataclass(frozen=True)
class Paced:
    """What an open loop gave. Latencies count from the intended start of a call, or its start if it was early."""

    calls_per_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    call_count: int
    refused_count: int
    late_count: int
    worst_late_ms: float


@dataclass(frozen=True)
class _Run:
    """One run of h2load: calls a second, bytes of all answers, and a row a call: start and duration in µs."""

    calls_per_s: float
    answer_bytes: int
    start_us: NDArray[np.float64]
    duration_us: NDArray[np.float64]

    @property
    def call_count(self) -> int:
        """Calls that ended."""
        return len(self.start_us)

    def refused_count(self, bytes_of_one_answer: int) -> int:
        """Calls that ended without an answer: gRPC refuses with HTTP status 200 like any other, but without bytes."""
        return max(0, self.call_count - round(self.answer_bytes / bytes_of_one_answer))


def measure(port: int, protocol: Protocol, load: Load, images: Images, *, duration_s: int) -> Measured:
    """Load the server on `port` for `duration_s`, after a warm-up; raises RuntimeError if it refuses more than 5 %."""
    images = images[: load.image_count]
    clients = load.connections if protocol.is_grpc else load.callers
    options = (f"--clients={clients}", f"--max-concurrent-streams={load.callers // clients}")
    warm_up = _run(port, protocol, images, *options, f"--duration={WARM_UP}")
    run = _run(port, protocol, images, *options, f"--duration={duration_s}")
    refused_count = run.refused_count(_answer_bytes(port, protocol, images))
    if refused_count > 0.05 * run.call_count or not run.call_count:
        raise RuntimeError(f"port {port}, {load}: {run.call_count} calls ended, {refused_count} of them refused")
    p50, p99 = np.percentile(run.duration_us, [50, 99]) / 1000
    call_count = warm_up.call_count + run.call_count + 1
    return Measured(run.calls_per_s, float(p50), float(p99), call_count)


def measure_paced(port: int, protocol: Protocol, images: Images, *, calls_per_s: float, duration_s: int) -> Paced:
    """Send `images` in calls that are spaced evenly, for `duration_s`.

    The clock of one h2load client ticks every 10 ms at best, so that one client would send in bursts. So c clients send
    one call every c/(c+1) periods each and start one period apart: all together, they send c+1 calls a period, evenly.
    """
    clients = max(1, round(calls_per_s * CLIENT_PERIOD_S) - 1)
    client_interval_s = CLIENT_PERIOD_S * clients / (clients + 1)
    ramp_s = clients * CLIENT_PERIOD_S
    client_calls = round((ramp_s + duration_s) / client_interval_s)
    run = _run(
        port,
        protocol,
        images,
        *(f"--clients={clients}", "--rate=1", f"--rate-period={CLIENT_PERIOD_S * 1000:.0f}ms"),
        *(
            f"--rps={1 / client_interval_s:.9f}",
            f"--requests={clients * client_calls}",
            "--max-concurrent-streams=1000",
        ),
    )
    refused_count = run.refused_count(_answer_bytes(port, protocol, images))
    steady = run.start_us - run.start_us.min()
    all_send = (steady > ramp_s * 1e6) & (steady < (client_calls - 1) * client_interval_s * 1e6)
    return _paced(
        run.start_us[all_send], run.duration_us[all_send], client_interval_s / clients, refused_count=refused_count
    )


def _paced(
    start_us: NDArray[np.float64], duration_us: NDArray[np.float64], interval_s: float, *, refused_count: int
) -> Paced:
    order = np.argsort(start_us)
    start_us, end_us = start_us[order], (start_us + duration_us)[order]
    intended_us = np.arange(len(start_us)) * interval_s * 1e6
    # The schedule is even, where it begins is free: the first tenth of the calls is neither late nor early on average.
    intended_us += np.median((start_us - intended_us)[: len(start_us) // 10 + 1])
    late_ms = (start_us - intended_us) / 1000
    latency_ms = (end_us - np.minimum(start_us, intended_us)) / 1000
    p50, p99, p999 = map(float, np.percentile(latency_ms, [50, 99, 99.9]))
    return Paced(
        1 / interval_s,
        p50,
        p99,
        p999,
        call_count=len(start_us),
        refused_count=refused_count,
        late_count=int((late_ms > LATE_MS).sum()),
        worst_late_ms=float(late_ms.max()),
    )


def _answer_bytes(port: int, protocol: Protocol, images: Images) -> int:
    """Bytes of one good answer."""
    answer_bytes = _run(port, protocol, images, "--requests=1").answer_bytes
    if not answer_bytes:
        raise RuntimeError(f"port {port}: {protocol.path} gave no answer to a single call")
    return answer_bytes


def _run(port: int, protocol: Protocol, images: Images, *options: str) -> _Run:
    """Run h2load once; raises RuntimeError if a call failed."""
    body = protocol.body(images)
    if protocol.is_grpc:  # as it stands in an HTTP/2 DATA frame: one byte, the length, the message
        body = b"\x00" + len(body).to_bytes(4, "big") + body
    with TemporaryDirectory() as folder:
        request, log = Path(folder) / "request", Path(folder) / "log"
        request.write_bytes(body)
        command: list[str] = [
            *("h2load", "--threads=1", f"--data={request}", f"--log-file={log}", *options),
            f"--header=content-type: {protocol.content_type}",
            *(["--header=te: trailers"] if protocol.is_grpc else ["--h1"]),
            f"http://127.0.0.1:{port}{protocol.path}",
        ]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rate, failed, answer_bytes = (
            re.search(pattern, done.stdout)
            for pattern in (r"finished in .*?, ([\d.]+) req/s", r"(\d+) failed", r"\((\d+)\) data")
        )
        if rate is None or failed is None or answer_bytes is None or int(failed[1]):
            raise RuntimeError(f"h2load failed: {' '.join(command)}\n{done.stdout}{done.stderr}")
        # The log has a row a call: when it was sent in µs since 1970, the HTTP status, µs until its stream was closed.
        rows = np.array(log.read_text().split(), np.float64).reshape(-1, 3)
    return _Run(float(rate[1]), int(answer_bytes[1]), rows[:, 0], rows[:, 2])
