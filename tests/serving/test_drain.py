"""SIGTERM: every accepted call is answered, and nobody is left guessing."""

import asyncio
import signal
from collections.abc import Mapping

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.client import AsyncDigitClient
from serving.errors import DrainingError, ServingError, UnavailableError
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
            except UnavailableError as error:
                if "Connection refused" in error.message:  # the port is closed: nobody has seen the call
                    return count
                raise
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
    assert await asyncio.to_thread(served.process.wait, 60) == 0


async def call_until_gone(address: str, images: Images) -> list[type[ServingError]]:
    """Call on, refused or not, until nobody listens any more; return the kinds of error that came."""
    kinds: list[type[ServingError]] = []
    async with AsyncDigitClient(address) as client:
        while UnavailableError not in kinds:
            try:
                await client.classify(images)
            except ServingError as error:
                kinds.append(type(error))
                await asyncio.sleep(0.02)
    return kinds


async def test_callers_that_never_give_up_do_not_hold_the_drain(served: ServerProcess, images: Images) -> None:
    """They are refused in the server's own words and then find the door closed, long before drain_s is over."""
    callers = [asyncio.create_task(call_until_gone(served.address, images[:3])) for _ in range(CALLERS)]
    await asyncio.sleep(0.5)
    served.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(served.process.wait, 60) == 0
    kinds = [kind for caller in await asyncio.gather(*callers) for kind in caller]
    assert set(kinds) == {DrainingError, UnavailableError}
    assert "cancelled" not in served.log.read_text()


async def test_a_drain_with_a_health_watch_open_logs_no_error(served: ServerProcess) -> None:
    """Nothing went wrong, and nobody is woken."""
    async with grpc.aio.insecure_channel(served.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        statuses = [(await watch.read()).status]
        served.process.send_signal(signal.SIGTERM)
        statuses.append((await watch.read()).status)
        assert await asyncio.to_thread(served.process.wait, 60) == 0
    assert statuses == [health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING]
    assert "ERROR" not in served.log.read_text()
    assert "Traceback" not in served.log.read_text()


def test_an_idle_server_stops_at_once(served: ServerProcess) -> None:
    """Nothing to wait for."""
    assert served.terminate() == 0
    assert "stopped" in served.log.read_text()
