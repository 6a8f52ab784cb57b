"""What the server does when more is asked than it can do: goodput, refusals, wasted runs, small calls among large.

    python -m tests.benchmarks.bench_overload [--images 1 32 256] [--times 3] [--deadline-ms 50] [--seconds 5]

Server and client share the machine. The load is an open loop: calls start when they
are due, and their time counts from then, whether the client was late or not.
"""

import argparse
import asyncio
import os
import statistics
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import numpy as np
import uvloop
from prometheus_client.parser import text_string_to_metric_families

from protos.digits.v1.digits_pb2 import ClassifyRequest
from serving.idx import read_images
from serving.pixels import Images
from tests.programs import ServerProcess, server_process
from tests.serving.conftest import MNIST, Publisher

CHANNELS = 8
CALLERS = 32
"""So many saturate the server: its capacity is what they get."""
METRICS_PORT = 19464
COLUMNS = (
    "images a call",
    "capacity, calls/s",
    "asked, calls/s",
    "good, calls/s",
    "good : capacity",
    "wasted runs",
    "refused within, p50, p99 ms",
    "calls by code",
)
OK = grpc.StatusCode.OK
REFUSED = grpc.StatusCode.RESOURCE_EXHAUSTED


@dataclass
class Outcome:
    """What became of the calls of one load."""

    duration_s: float
    seconds: dict[grpc.StatusCode, list[float]] = field(default_factory=dict)
    late_sends: int = 0
    never_sent: int = 0
    """Calls for which the client itself was too late."""

    def add(self, code: grpc.StatusCode, elapsed_s: float) -> None:
        """Count a call."""
        self.seconds.setdefault(code, []).append(elapsed_s)

    def count(self, code: grpc.StatusCode) -> int:
        """Calls that ended so."""
        return len(self.seconds.get(code, []))

    def percentile_ms(self, code: grpc.StatusCode, percent: float) -> float:
        """Their time."""
        return 1000 * float(np.percentile(self.seconds.get(code) or [np.nan], percent))

    def good_per_s(self, within_s: float) -> float:
        """Calls a second that were answered in time."""
        return sum(elapsed_s <= within_s for elapsed_s in self.seconds.get(OK, [])) / self.duration_s


class Caller:
    """Sends one prepared request over several connections."""

    def __init__(self, address: str, images: Images) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channels = [grpc.aio.insecure_channel(address, options) for _ in range(CHANNELS)]
        self._methods: list[Any] = [
            channel.unary_unary("/digits.v1.DigitService/Classify") for channel in self._channels
        ]
        self._body = ClassifyRequest(image_count=len(images), pixels=images.tobytes()).SerializeToString()
        self._next = 0

    async def call(self, timeout_s: float | None) -> grpc.StatusCode:
        """Call once."""
        self._next += 1
        try:
            await self._methods[self._next % CHANNELS](self._body, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return OK

    async def close(self) -> None:
        """Close the connections."""
        for channel in self._channels:
            await channel.close()


@asynccontextmanager
async def calling(address: str, images: Images) -> AsyncIterator[Caller]:
    """A caller, closed at the end."""
    caller = Caller(address, images)
    try:
        yield caller
    finally:
        await caller.close()


async def closed_loop(caller: Caller, callers: int, duration_s: float, pause_s: float = 0) -> Outcome:
    """So many callers, each with one call in flight."""
    outcome = Outcome(duration_s)
    end = time.perf_counter() + duration_s

    async def one() -> None:
        while (began := time.perf_counter()) < end:
            outcome.add(await caller.call(None), time.perf_counter() - began)
            await asyncio.sleep(pause_s)

    await asyncio.gather(*(one() for _ in range(callers)))
    return outcome


async def open_loop(caller: Caller, calls_per_s: float, timeout_s: float, duration_s: float) -> Outcome:
    """Start calls when they are due, and wait for none."""
    outcome = Outcome(duration_s)
    began = time.perf_counter()
    tasks = set()

    async def one(due: float) -> None:
        remaining_s = due + timeout_s - time.perf_counter()
        if remaining_s <= 0:
            outcome.never_sent += 1
            return
        outcome.add(await caller.call(remaining_s), time.perf_counter() - due)

    for index in range(int(calls_per_s * duration_s)):
        due = began + index / calls_per_s
        if (wait_s := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait_s)
        elif wait_s < -0.001:
            outcome.late_sends += 1
            if index % 8 == 0:
                await asyncio.sleep(0)
        task = asyncio.create_task(one(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    return outcome


@contextmanager
def server(repository: Path | None, concurrent_runs: int, *, pins: bool) -> Iterator[ServerProcess]:
    """Our server with its defaults; if `pins`, on the first core, and this process on the others."""
    with TemporaryDirectory() as folder:
        if repository is None:
            publisher = Publisher(Path(folder) / "repository")
            publisher.publish(1)
            repository = publisher.root
        arguments = (
            "--provider",
            "cpu",
            "--metrics-port",
            str(METRICS_PORT),
            "--concurrent-runs",
            str(concurrent_runs),
        )
        with server_process(repository, Path(folder) / "log", *arguments) as process:
            cores = sorted(os.sched_getaffinity(0))
            if pins and len(cores) > 1:
                for thread in Path(f"/proc/{process.process.pid}/task").iterdir():
                    os.sched_setaffinity(int(thread.name), cores[:1])
                os.sched_setaffinity(0, cores[1:])
            yield process


def run_images() -> float:
    """The images that the model has run for so far."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{METRICS_PORT}/metrics", timeout=5).read().decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return next(sample.value for sample in samples if sample.name == "serving_batch_images_sum")


async def overload(address: str, images: Images, options: argparse.Namespace) -> None:
    """Print one row."""
    deadline_s = options.deadline_ms / 1000
    async with calling(address, images) as caller:
        await closed_loop(caller, CALLERS, 1)
        capacity = statistics.median(
            [(await closed_loop(caller, CALLERS, options.seconds / 3)).good_per_s(1) for _ in range(3)]
        )
        before = await asyncio.to_thread(run_images)
        pressed = await open_loop(caller, options.times * capacity, deadline_s, options.seconds)
        ran = (await asyncio.to_thread(run_images) - before) / len(images)
    good = pressed.good_per_s(deadline_s)
    asked = f"{options.times * capacity:,.0f} ({pressed.late_sends} sent late, {pressed.never_sent} never)"
    codes = Counter({code.name: len(seconds) for code, seconds in pressed.seconds.items()})
    print(
        f"| {len(images)} | {capacity:,.0f} | {asked} "
        f"| {good:,.0f} | {good / capacity:.2f} | {1 - good * options.seconds / max(ran, 1):.1%} "
        f"| {pressed.percentile_ms(REFUSED, 50):.1f}, {pressed.percentile_ms(REFUSED, 99):.1f} "
        f"| {', '.join(f'{name} {count}' for name, count in codes.most_common())} |",
        flush=True,
    )


async def interactive_among_bulk(address: str, images: Images, options: argparse.Namespace) -> None:
    """Print how long single-image calls take, idle and while bulk calls saturate the server."""
    async with calling(address, images[:1]) as single, calling(address, images[:256]) as bulk:
        idle = await closed_loop(single, 1, options.seconds, pause_s=0.005)
        alone = await closed_loop(bulk, 1, options.seconds / 2)
        pressing = asyncio.create_task(closed_loop(bulk, 8, options.seconds + 1))
        await asyncio.sleep(0.5)
        busy = await closed_loop(single, 1, options.seconds, pause_s=0.005)
        await pressing
    idle_ms, busy_ms, bulk_ms = idle.percentile_ms(OK, 99), busy.percentile_ms(OK, 99), alone.percentile_ms(OK, 50)
    print(
        f"\np99 of a single image: idle {idle_ms:.2f} ms, among 8 callers of 256 images {busy_ms:.2f} ms; "
        f"3 x idle + one bulk call alone ({bulk_ms:.2f} ms) = {3 * idle_ms + bulk_ms:.2f} ms"
    )


def main() -> None:
    """Print one row for each size of call, then small calls among large ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="*", default=[1, 32, 256], help="images a call")
    parser.add_argument("--times", type=float, default=3, help="times the capacity that is asked for")
    parser.add_argument("--deadline-ms", type=float, default=50)
    parser.add_argument("--seconds", type=float, default=5, help="seconds of each load")
    parser.add_argument("--repository", type=Path, help="a model repository of yours, in place of the small test model")
    parser.add_argument("--concurrent-runs", type=int, default=2, help="of the server; 1 leaves a core to the client")
    parser.add_argument("--pin", action="store_true", help="give server and client a core each")
    options = parser.parse_args()
    images = np.ascontiguousarray(read_images(MNIST / "t10k-images-idx3-ubyte.gz")[:1000])
    with (
        server(options.repository, options.concurrent_runs, pins=options.pin) as process,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
        for image_count in options.images:
            runner.run(overload(process.address, images[:image_count], options))
        runner.run(interactive_among_bulk(process.address, images, options))


if __name__ == "__main__":
    main()
