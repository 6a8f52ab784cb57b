"""The server on a card: images a second through gRPC beside the bare session, single images under load, swaps."""

import asyncio
import multiprocessing
import re
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import numpy as np

from pipeline.config import PRESETS
from protos.digits.v1.digits_pb2 import ClassifyRequest
from serving.client import AsyncDigitClient
from serving.pixels import Images
from tests.programs import ServerProcess, run_program, server_process
from tests.serving.conftest import Publisher
from tests.serving.test_soak import swap_to

METHOD = "/digits.v1.DigitService/Classify"
CLIENT_PROCESSES = 4
ROUNDS = 3


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


def measure(device: str, *, workers: Sequence[int], loads: Sequence[Load], round_s: float) -> dict[str, Any]:
    """By network, number of workers and load: what callers get; a median over rounds."""
    found: dict[str, Any] = {}
    with TemporaryDirectory() as name:
        folder = Path(name)
        for network in ("default", "accurate"):
            publisher = _publisher(network, folder / network)
            for provider in dict.fromkeys(("cpu", device)):
                for count in workers:
                    title = f"{network}, {provider}, {count} workers"
                    with _server(publisher, folder / "log", provider, count) as server:
                        found[title] = {str(load): asdict(_rounds(server, load, round_s)) for load in loads}
    return found


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
    options = ("--provider", provider, "--workers", str(workers), "--poll-ms", "20", "--max-queue-ms", "10000")
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


def _rounds(server: ServerProcess, load: Load, round_s: float) -> Answered:
    _take(server.address, load, round_s / 2)
    rounds = [_take(server.address, load, round_s) for _ in range(ROUNDS)]
    return Answered(
        images_per_s=statistics.median(one.images_per_s for one in rounds),
        p50_ms=statistics.median(one.p50_ms for one in rounds),
        p99_ms=statistics.median(one.p99_ms for one in rounds),
        failed=sum(one.failed for one in rounds),
    )


def _take(address: str, load: Load, round_s: float) -> Answered:
    """Put the load on from processes of its own: Python's lock would hold a single one back."""
    processes = min(CLIENT_PROCESSES, load.callers)
    shares = [load.callers // processes + (index < load.callers % processes) for index in range(processes)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        parts = pool.starmap(call_on, [(address, share, load.images, round_s) for share in shares])
    latencies = np.concatenate([part[0] for part in parts])
    images_per_s = sum(len(part[0]) * load.images / part[2] for part in parts)
    p50, p99 = 1000 * np.percentile(latencies, [50, 99])
    return Answered(images_per_s, float(p50), float(p99), sum(part[1] for part in parts))


def call_on(address: str, callers: int, images: int, round_s: float) -> tuple[Sequence[float], int, float]:
    """Call in a closed loop from so many threads: seconds of each answer, how many failed, and how long it took."""
    pixels = np.random.default_rng(0).integers(0, 256, images * 784, dtype=np.uint8).tobytes()
    request = ClassifyRequest(pixels=pixels, image_count=images).SerializeToString()
    latencies: list[float] = []
    failed = 0

    def call(channel: grpc.Channel) -> None:
        nonlocal failed
        classify: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        while time.perf_counter() < until:
            began = time.perf_counter()
            try:
                classify(request, timeout=30)
            except grpc.RpcError:
                failed += 1
            else:
                latencies.append(time.perf_counter() - began)

    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    channels = [grpc.insecure_channel(address, options) for _ in range(callers)]
    began = time.perf_counter()
    until = began + round_s
    threads = [threading.Thread(target=call, args=(channel,)) for channel in channels]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = time.perf_counter() - began
    for channel in channels:
        channel.close()
    return latencies, failed, spent


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
