"""`python -m serving.workers.worker FD`: one of several servers behind a port; FD leads to the supervisor, its parent.

It does what a single server does, but swaps when the supervisor says so, and drains when that is gone.
"""

import asyncio
import gc
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import uvloop

from protos.artifact.v1.manifest_pb2 import Current
from serving.config import Settings
from serving.errors import ProviderError
from serving.exit import exit_now
from serving.server import MakeTransport, Server
from serving.telemetry import logs
from serving.versions.repository import Refusal
from serving.workers.gate import Change, State
from serving.workers.link import Link


class SupervisorGate:
    """The gate as a worker sees it. Until `close`, whoever comes goes through at once: nobody has seen this worker."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._is_closed = False
        self._waiting: tuple[Change, asyncio.Future[None]] | None = None

    async def wait(self, current: Current) -> None:
        """Say that what CURRENT names is ready; return when it may swap."""
        change = Change(current.sha256, current.generation, current.version)
        if not self._is_closed:
            self._tell(State.SERVES, change)
            return
        opened = asyncio.get_running_loop().create_future()
        self._waiting = change, opened
        self._tell(State.READY, change)
        await opened

    def refused(self, refusal: Refusal) -> None:
        """Say that what CURRENT names is not served here."""
        self._tell(State.REFUSED, Change(refusal.sha256, refusal.generation, refusal.version))

    def close(self) -> None:
        """From now on wait for the supervisor."""
        self._is_closed = True

    def open(self, change: Change) -> None:
        """Let a change through, if it still waits."""
        if self._waiting and self._waiting[0] == change and not self._waiting[1].done():
            self._waiting[1].set_result(None)

    def _tell(self, state: State, change: Change) -> None:
        self._link.send(state=state, change=change)


def main(descriptor: int) -> int:
    """Serve until the supervisor says otherwise; 0 after a drain, 1 when it cannot start."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work(socket.socket(fileno=descriptor)))


async def work(
    end: socket.socket,
    make_transport: MakeTransport | None = None,
    beside: Callable[[Settings], Coroutine[Any, Any, None]] | None = None,
) -> int:
    """Be a worker, whose supervisor is at the other `end`; return the exit code: 0 after a drain, 1 for a bad start.

    `beside` runs as long as the server does.
    """
    link = await Link.over(end)
    messages = link.messages()
    first = await anext(messages, None)
    if first is None:
        return 0
    settings = Settings.model_validate_json(first["settings"])
    logs.set_up(settings.log_level, settings.log_format, first["worker"])
    gate, stop = SupervisorGate(link), asyncio.Event()
    _stop_by_signal(stop)
    try:
        server = Server(settings, gate, make_transport)
        tasks = [asyncio.create_task(_listen(messages, link, server, gate, stop))]
        if beside:
            tasks.append(asyncio.create_task(beside(settings)))
        await server.start(_current(first["serves"]))
    except (ProviderError, OSError) as error:
        link.send(fault=str(error))
        await link.close()
        return 1
    gate.close()
    gc.collect()
    gc.freeze()  # as in serve.py
    link.send(listens=True)
    await stop.wait()
    await server.drain()
    for task in tasks:
        task.cancel()
    return 0


def _stop_by_signal(stop: asyncio.Event) -> None:
    """Not inside Envoy, which signals do not reach."""
    if threading.current_thread() is threading.main_thread():
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, stop.set)


def _current(serves: list[Any] | None) -> Current | None:
    """What the other workers answer with, if they do."""
    if serves is None:
        return None
    change = Change(*serves)
    return Current(version=change.version, sha256=change.sha256, generation=change.generation)


async def _listen(
    messages: AsyncIterator[dict[str, Any]], link: Link, server: Server, gate: SupervisorGate, stop: asyncio.Event
) -> None:
    """Do what the supervisor says; when it says nothing more, stop."""
    answers: set[asyncio.Task[None]] = set()
    try:
        async for message in messages:
            match message:
                case {"swap": change}:
                    gate.open(Change(*change))
                case {"scrape": number}:
                    answer = asyncio.create_task(_answer_scrape(link, server, number))
                    answers.add(answer)
                    answer.add_done_callback(answers.discard)
                case {"drain": True}:
                    stop.set()
    finally:
        stop.set()


async def _answer_scrape(link: Link, server: Server, number: int) -> None:
    link.send(scrape=number, exposition=await server.exposition())


if __name__ == "__main__":
    exit_now(main(int(sys.argv[1])))
