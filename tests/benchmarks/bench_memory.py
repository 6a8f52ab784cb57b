"""The server's memory under half an hour of mixed load: calls of 1 to 1,024 images, bad ones among them.

python -m tests.benchmarks.bench_memory [--transport envoy] [--minutes 30]
"""

import argparse
import asyncio
import random
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from serving.client import AsyncDigitClient
from serving.errors import ServingError
from serving.idx import read_images
from serving.pixels import Images
from tests.programs import resident_bytes, server_process
from tests.serving.conftest import MNIST, Publisher

CALLERS = 8
SIZES = (1, 1, 1, 1, 2, 7, 32, 32, 100, 256, 1000, 1024)
"""Images a call, drawn by chance."""
BAD_SHARE = 0.02
"""Calls whose images have a shape that the model does not take."""


async def call_on(address: str, images: Images, seed: int, outcomes: Counter[str], end: float) -> None:
    """Call until `end`, seconds on time.monotonic; a new connection now and then."""
    chance = random.Random(seed)  # noqa: S311 - a seed that can be run again
    while time.monotonic() < end:
        async with AsyncDigitClient(address) as client:
            for _ in range(chance.randint(1, 1000)):
                if time.monotonic() >= end:
                    break
                count = chance.choice(SIZES)
                at = chance.randrange(len(images) - count + 1)
                batch = images[at : at + count]
                if chance.random() < BAD_SHARE:
                    batch = np.ascontiguousarray(batch[:, :9, :9])
                try:
                    await client.classify(batch)
                    outcomes["images"] += count
                    outcomes["answered"] += 1
                except ServingError as error:
                    outcomes[type(error).__name__] += 1


async def press(address: str, pids: dict[str, int], images: Images, minutes: int) -> None:
    """Print a row a minute."""
    outcomes: Counter[str] = Counter()
    end = time.monotonic() + 60 * minutes
    callers = [asyncio.create_task(call_on(address, images, seed, outcomes, end)) for seed in range(CALLERS)]
    print(f"| minute | {' | '.join(f'{name}, MiB' for name in pids)} | calls so far |\n|{' --- |' * (len(pids) + 2)}")
    for minute in range(minutes + 1):
        sizes = " | ".join(f"{resident_bytes(pid) / 2**20:.0f}" for pid in pids.values())
        told = ", ".join(f"{count:,} {name}" for name, count in sorted(outcomes.items()))
        print(f"| {minute} | {sizes} | {told} |", flush=True)
        if minute < minutes:
            await asyncio.sleep(60)
    await asyncio.gather(*callers)


def main() -> None:
    """Start a server, call it, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transport", default="envoy", choices=("envoy", "grpcio"))
    parser.add_argument("--minutes", type=int, default=30)
    options = parser.parse_args()
    images = np.ascontiguousarray(read_images(MNIST / "t10k-images-idx3-ubyte.gz")[:4096])
    with TemporaryDirectory() as folder:
        publisher = Publisher(Path(folder) / "repository")
        publisher.publish(1)
        arguments = ("--provider", "cpu", "--transport", options.transport)
        with server_process(publisher.root, Path(folder) / "log", *arguments) as server:
            pids = {"answering process": server.answering_pid}
            if server.answering_pid != server.process.pid:
                pids["its supervisor"] = server.process.pid
            asyncio.run(press(server.address, pids, images, options.minutes))


if __name__ == "__main__":
    main()
