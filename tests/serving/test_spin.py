"""The event loop does not sleep while the next call is near, and sleeps otherwise."""

import asyncio
import time
from pathlib import Path

from serving.client import DigitClient
from serving.pixels import Images
from serving.transport.spin import Spinner
from tests.programs import ServerProcess


async def cpu_share(spinner: Spinner, within_s: float) -> float:
    """The share of that time for which the loop keeps a core, with nothing else to do."""
    before = time.process_time()
    spinner.touch()
    await asyncio.sleep(within_s)
    return (time.process_time() - before) / within_s


async def test_it_keeps_a_core_for_a_moment_and_then_sleeps() -> None:
    """For as long as was asked for, and not a bit longer."""
    spinner = Spinner(0.2, lambda: False)
    assert await cpu_share(spinner, 0.2) > 0.2
    await asyncio.sleep(0.05)
    assert await cpu_share(Spinner(0, lambda: False), 0.2) < 0.2


async def test_it_leaves_the_core_to_a_model_that_runs() -> None:
    """Not a turn more than anybody needs."""
    assert await cpu_share(Spinner(10, lambda: True), 0.2) < 0.2


def cpu_s(pid: int) -> float:
    """The CPU time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_a_server_without_calls_sleeps(served: ServerProcess, images: Images) -> None:
    """However busy it was a moment before."""
    with DigitClient(served.address) as client:
        for _ in range(50):
            client.classify(images[0])
        time.sleep(0.1)
        before = cpu_s(served.answering_pid)
        time.sleep(1)
    assert cpu_s(served.answering_pid) - before < 0.3
