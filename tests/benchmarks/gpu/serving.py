"""The server on a card: images a second through gRPC beside the bare session, single images under load, swaps."""

import asyncio
import multiprocessing
import multiprocessing.pool
import re
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import numpy as np

from pipeline.presets import PRESETS
from protos.digits.v1.digits_pb2 import ClassifyRequest
from serving.client import AsyncDigitClient
from serving.pixels import Images
from tests.programs import ServerProcess, run_program, server_process
from tests.serving.conftest import Publisher
from tests.serving.test_soak import swap_to

METHOD = "/digits.v1.DigitService/Classify"
CLIENT_PROCESSES = 4
ROUNDS = 3
START_S = 0.5  # for every client to have heard when a round begins
PAUSE_S = 0.01  # after a call that failed
SWAP_S = 60.0  # in which a server has followed, or will not


@dataclass(frozen=True)
class Load:
    """So many callers in a closed loop, each with so many images a call."""

    callers: int
    images: int

    def __str__(self) -> str:
        return f"{self.callers} callers x {self.images:,} images"


@dataclass(frozen=True)
class Answered:
    """What came of a load."""

    images_per_s: float
    p50_ms: float
    p99_ms: float
    failed: int


def measure(
    device: str,
    *,
    networks: Sequence[str],
    workers: Sequence[int],
    loads: Sequence[Load],
    round_s: float,
    on_server: Callable[[dict[str, Any]], None],
) -> None:
    """By network, number of workers and load: what callers get; a median over rounds.

    `on_server` is given what there is after each server. Clients are processes of their own, as Python's lock would
    hold a single one back.
    """
    found: dict[str, Any] = {}
    spawn = multiprocessing.get_context("spawn")
    started = spawn.Barrier(CLIENT_PROCESSES + 1)
    with TemporaryDirectory() as name, spawn.Pool(CLIENT_PROCESSES, started.wait) as clients:
        started.wait(timeout=60)  # each has imported what it needs
        folder = Path(name)
        for network in networks:
            publisher = _publisher(network, folder / network)
            for provider in dict.fromkeys(("cpu", device)):
                for count in workers:
                    title = f"{network}, {provider}, {count} workers"
                    with _server(publisher, folder / "log", provider, count) as server:
                        found[title] = {str(load): asdict(_rounds(clients, server, load, round_s)) for load in loads}
                    on_server(found)


def swaps(device: str, count: int) -> dict[str, Any]:
    """Swap so many times under sixteen callers: calls that failed, and the card's memory before and after."""
    with TemporaryDirectory() as name:
        publisher = Publisher(Path(name) / "repository")
        publisher.publish(1)
        with _server(publisher, Path(name) / "log", device, 1) as server:
            return asyncio.run(_swap(publisher, server.address, count))


def _publisher(network: str, folder: Path) -> Publisher:
    """A repository with a version of that network; the larger one by the pipeline, after a single epoch."""
    publisher = Publisher(folder / "repository")
    if network == "default":
        publisher.publish(1)
        return publisher
    preset = folder / f"{network}.toml"
    folder.mkdir()
    preset.write_text(re.sub(r"(?m)^epochs = .*", "epochs = 1", (PRESETS / preset.name).read_text()))
    asked = ("run", "--preset", preset, "--repository", publisher.root, "--cache", folder, "--no-prefect", "--force")
    ran = run_program("pipeline", *asked)
    if ran.returncode:
        raise RuntimeError(f"{network} was not published: {ran.stderr}")
    return publisher


@contextmanager
def _server(publisher: Publisher, log: Path, provider: str, workers: int) -> Iterator[ServerProcess]:
    options = (
        "--provider",
        provider,
        "--workers",
        str(workers),
        "--poll-ms",
        "20",
        "--max-queue-ms",
        "10000",
        "--max-queue-images",
        "65536",
    )
    with server_process(publisher.root, log, *options) as server:
        asyncio.run(_answers(server.address))
        yield server


async def _answers(address: str) -> None:
    """Wait for a first answer; loading a large network on a card takes a while."""
    async with AsyncDigitClient(address) as client, asyncio.timeout(120):
        while True:
            try:
                await client.model()
            except Exception:
                await asyncio.sleep(0.1)
            else:
                return


def _rounds(clients: multiprocessing.pool.Pool, server: ServerProcess, load: Load, round_s: float) -> Answered:
    _take(clients, server.address, load, round_s / 2)
    rounds = [_take(clients, server.address, load, round_s) for _ in range(ROUNDS)]
    return Answered(
        images_per_s=statistics.median(one.images_per_s for one in rounds),
        p50_ms=statistics.median(one.p50_ms for one in rounds),
        p99_ms=statistics.median(one.p99_ms for one in rounds),
        failed=sum(one.failed for one in rounds),
    )


def _take(clients: multiprocessing.pool.Pool, address: str, load: Load, round_s: float) -> Answered:
    """Put the load on from all client processes, which begin and end together."""
    shares = [load.callers // CLIENT_PROCESSES + (n < load.callers % CLIENT_PROCESSES) for n in range(CLIENT_PROCESSES)]
    start = time.perf_counter() + START_S  # one clock for all processes of a machine
    parts = clients.starmap(call_on, [(address, n, load.images, start, start + round_s) for n in shares], chunksize=1)
    if late := [part for part in parts if part[2] > start]:
        raise RuntimeError(f"{len(late)} of {len(parts)} client processes began late; give START_S more")
    latencies = np.concatenate([part[0] for part in parts])
    p50, p99 = 1000 * np.percentile(latencies, [50, 99])
    return Answered(len(latencies) * load.images / round_s, float(p50), float(p99), sum(part[1] for part in parts))


def call_on(address: str, callers: int, images: int, start: float, end: float) -> tuple[Sequence[float], int, float]:
    """Call in a closed loop from so many threads between two times of perf_counter.

    Returns the seconds of each answer that came within them, how many calls failed, and when it was ready to begin.
    """
    pixels = np.random.default_rng(0).integers(0, 256, images * 784, dtype=np.uint8).tobytes()
    request = ClassifyRequest(pixels=pixels, image_count=images).SerializeToString()
    latencies: list[float] = []
    failed = 0

    def call(channel: grpc.Channel) -> None:
        nonlocal failed
        classify: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        time.sleep(max(0.0, start - time.perf_counter()))
        while (began := time.perf_counter()) < end:
            try:
                classify(request, timeout=30)
            except grpc.RpcError:
                failed += 1
                time.sleep(PAUSE_S)
            else:
                if (answered := time.perf_counter()) <= end:
                    latencies.append(answered - began)

    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    channels = [grpc.insecure_channel(address, options) for _ in range(callers)]
    threads = [threading.Thread(target=call, args=(channel,)) for channel in channels]
    for thread in threads:
        thread.start()
    ready = time.perf_counter()
    for thread in threads:
        thread.join()
    for channel in channels:
        channel.close()
    return latencies, failed, ready


async def _swap(publisher: Publisher, address: str, count: int) -> dict[str, Any]:
    images: Images = np.zeros((100, 28, 28), np.uint8)
    stop, failures, answered = asyncio.Event(), 0, 0
    used_mib: list[int] = []

    async def call(client: AsyncDigitClient, size: int) -> None:
        nonlocal failures, answered
        while not stop.is_set():
            try:
                await client.classify(images[:size])
                answered += 1
            except Exception:
                failures += 1

    async with AsyncDigitClient(address) as client:
        callers = [asyncio.create_task(call(client, size)) for size in (1, 1, 4, 16, 32, 64, 100, 100) * 2]
        for index in range(count):
            async with asyncio.timeout(SWAP_S):  # a version that is refused is never followed
                await swap_to(publisher, client, 2 - index % 2)
            used_mib.append(_used_mib())
        stop.set()
        await asyncio.gather(*callers)
    return {"swaps": count, "answered": answered, "failed": failures, "used_mib": used_mib}


def _used_mib() -> int:
    """What is taken of the card's memory, by everybody; 0 where there is no card."""
    try:
        said = subprocess.run(
            ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"],  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return 0
    return int(said.split()[0])
