"""What the `serving-timing` trailer costs: our server with it beside the same server without it.

    python -m tests.benchmarks.bench_trailer [--rounds 15] [--seconds 1] [--control]

Every round starts both servers anew, since a process may be a little faster than its twin for as long as it lives. Each
load goes to the one, twice to the other, and to the one again, each time for a second, so that a machine that becomes
slower or faster meanwhile does so for both; the next round begins with the other. What counts is the ratio in a round.
`--control` runs the same server twice: its ratios are the machine's own noise.
"""

import argparse
import os
import shutil
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from serving.digits import TIMING
from serving.idx import read_images
from serving.pixels import Images
from tests.benchmarks import table
from tests.benchmarks.bench_serving import start
from tests.benchmarks.h2load import Load, measure
from tests.benchmarks.servers import OURS, SERVERS, WITHOUT_TRAILER, Running, Server
from tests.serving.conftest import MNIST

WITH_TRAILER = next(server for server in SERVERS if server.name == OURS)
CONTROL = replace(WITH_TRAILER, name="ours-again")
LOADS = (Load(1, 1), Load(64, 1), Load(8, 32))
HEAD = ("load", "measure", "with", "without", "with : without", "half of the rounds between")


@dataclass(frozen=True)
class Cost:
    """What one server gave and took in one round of one load."""

    calls_per_s: float
    cpu_us: float
    """Of the server's processor time, a call."""


Pair = tuple[Cost, Cost]
"""With the trailer, and without it, in one round."""


def cpu_s(pid: int) -> float:
    """The processor time of a process so far: steadier than calls a second where a machine is shared."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # from the third on
    user, system = map(int, fields[11:13])
    return (user + system) / os.sysconf("SC_CLK_TCK")


def cost(server: Server, running: Running, load: Load, images: Images, *, seconds: int) -> Cost:
    """Load one server."""
    before_s = cpu_s(running.pid)
    measured = measure(running.port, server.protocol, load, images, duration_s=seconds)
    return Cost(measured.calls_per_s, 1e6 * (cpu_s(running.pid) - before_s) / measured.call_count)


def mean(costs: Sequence[Cost]) -> Cost:
    """Of the turns of one server."""
    return Cost(statistics.mean(one.calls_per_s for one in costs), statistics.mean(one.cpu_us for one in costs))


def check_trailers(running: Mapping[Server, Running], images: Images) -> None:
    """Demand that the trailer is sent by all but the one server that is without it; raises RuntimeError."""
    for server, at in running.items():
        with grpc.insecure_channel(f"127.0.0.1:{at.port}") as channel:
            method: Any = channel.unary_unary(server.protocol.path)
            _, call = method.with_call(server.protocol.body(images[:1]))
        keys = [key for key, _ in call.trailing_metadata()]
        if (TIMING in keys) is (server is WITHOUT_TRAILER):
            raise RuntimeError(f"{server.name} sent the trailers {keys}")


def measure_round(servers: Sequence[Server], images: Images, *, seconds: int) -> dict[Load, Pair]:
    """Start both servers, and load them in turns, the first one first."""
    costs: dict[Load, dict[Server, list[Cost]]] = {load: {server: [] for server in servers} for load in LOADS}
    with ExitStack() as stack:
        running = start(stack, servers, LOADS, images)
        check_trailers(running, images)
        for load in LOADS:
            for server in (*servers, *reversed(servers)):
                costs[load][server].append(cost(server, running[server], load, images, seconds=seconds))
    (other,) = (server for server in servers if server is not WITH_TRAILER)
    return {load: (mean(of[WITH_TRAILER]), mean(of[other])) for load, of in costs.items()}


def rows(load: Load, pairs: Sequence[Pair]) -> Iterable[Sequence[str]]:
    """A row a measure."""
    for measure_name, name in (("calls/s", "calls_per_s"), ("server's CPU, µs a call", "cpu_us")):
        values = np.array([[getattr(cost, name) for cost in pair] for pair in pairs])  # (round, with and without)
        with_trailer, without = np.median(values, axis=0)
        low, middle, high = np.percentile(values[:, 0] / values[:, 1], [25, 50, 75])
        yield (
            *(str(load), measure_name, f"{with_trailer:,.0f}", f"{without:,.0f}"),
            *(f"{middle:.3f}", f"{low:.3f} and {high:.3f}"),
        )


def main() -> None:
    """Measure, and print it as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="rounds of every load (default: 15)")
    parser.add_argument("--seconds", type=int, default=1, help="seconds a turn (default: 1)")
    parser.add_argument("--control", action="store_true", help="the server with its trailer beside itself")
    options = parser.parse_args()
    images = np.ascontiguousarray(read_images(MNIST / "t10k-images-idx3-ubyte.gz")[:32])
    servers, results = [WITH_TRAILER, CONTROL if options.control else WITHOUT_TRAILER], []
    for index in range(options.rounds):
        print(f"round {index + 1} of {options.rounds}", file=sys.stderr, flush=True)
        results.append(measure_round(servers, images, seconds=options.seconds))
        servers.reverse()
    print(table.markdown(HEAD, [row for load in LOADS for row in rows(load, [result[load] for result in results])]))
    turns = f"{options.rounds} rounds with two turns of {options.seconds} s each, medians"
    print(f"\n{turns}; callers x images a call; {table.machine()}")


if __name__ == "__main__":
    if shutil.which("h2load") is None:
        sys.exit("h2load is not installed: apt-get install nghttp2-client")
    main()
