"""SIGTERM: every accepted call is answered, and nobody is left guessing."""

import asyncio
import signal
from collections.abc import Mapping

import pytest

from serving.client import AsyncDigitClient
from serving.errors import DrainingError
from serving.pixels import Images
from serving.session import Session
from tests.programs import ServerProcess
from tests.serving.conftest import is_right

CALLERS = 32


async def call_until_refused(
    address: str, images: Images, sessions: Mapping[int, Session], answered: asyncio.Event
) -> int:
    """Call on and on; return how many answers came before the server said that it drains."""
    count = 0
    async with AsyncDigitClient(address) as client:
        while True:
            try:
                answer = await client.classify(images)
            except DrainingError:
                return count
            assert is_right(answer, images, sessions)
            count += 1
            answered.set()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT], ids=lambda stop: stop.name)
async def test_a_drain_under_load_loses_no_call(
    served: ServerProcess, images: Images, sessions: Mapping[int, Session], stop: signal.Signals
) -> None:
    """Every call of 32 callers ends in an answer or in the server's own word that it drains; the exit code is 0."""
    answered = asyncio.Event()
    callers = [
        asyncio.create_task(call_until_refused(served.address, images[index : index + 3], sessions, answered))
        for index in range(CALLERS)
    ]
    await answered.wait()
    await asyncio.sleep(0.2)
    served.process.send_signal(stop)
    counts = await asyncio.gather(*callers)
    assert sum(counts) > CALLERS
    assert await asyncio.to_thread(served.process.wait, 10) == 0


def test_an_idle_server_stops_at_once(served: ServerProcess) -> None:
    """Nothing to wait for."""
    assert served.terminate() == 0
    assert "stopped" in served.log.read_text()
