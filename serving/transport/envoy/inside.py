"""What runs inside Envoy: pyvoy imports this module there and calls `app`, for its lifespan, then for every request.

The server in it is a worker like any other, whose supervisor started this Envoy (`process.py`).
"""

import asyncio
import logging
import os
import shutil
import socket
import threading
import time
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any

from serving.call import Dispatcher, Service
from serving.config import Settings
from serving.envoy.certificates import keep_certificates
from serving.files import read_files
from serving.transport.asgi import Event, Receive, Send
from serving.transport.envoy.process import FOLDER, LINK
from serving.transport.envoy.transport import EnvoyTransport
from serving.workers import worker

LOOK_S = 0.5
"""How often a thread looks whether the event loop still runs."""

END_S = 2.0
"""Envoy may take so long to end when it is told to: less than the supervisor waits beyond a drain."""

DIED = 70
"""The exit code when Python ended and Envoy would go on without it, or the other way round (EX_SOFTWARE)."""

log = logging.getLogger(__name__)


class Inside:
    """The ASGI application that Envoy calls."""

    _asgi_single_callable = True  # an ASGI 3 application, although `__call__` is no coroutine function itself

    def __init__(self) -> None:
        self._transport: EnvoyTransport | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_ending = False

    def __call__(self, scope: Event, receive: Receive, send: Send) -> Awaitable[None]:
        """One request, or the lifespan."""
        if self._transport is not None and scope["type"] == "http":
            return self._transport.app(scope, receive, send)
        return self._live(scope, receive, send)

    async def _live(self, scope: Event, receive: Receive, send: Send) -> None:
        """From Envoy's start to its end; other kinds of requests are not ours."""
        if scope["type"] != "lifespan":
            raise RuntimeError(f"came a scope of type {scope['type']!r}, expected lifespan, then http")
        await receive()
        if LINK not in os.environ:  # no supervisor started this Envoy: it only validates its configuration
            await send({"type": "lifespan.startup.complete"})
            return
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_handle)
        self._end_with(loop)
        begun = loop.create_future()
        self._task = asyncio.create_task(self._work(begun))
        await begun
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._is_ending = True
        await send({"type": "lifespan.shutdown.complete"})

    async def _work(self, begun: "asyncio.Future[None]") -> None:
        """Be a worker until the supervisor has had enough of it, then end this process, whatever happens."""
        folder = Path(os.environ[FOLDER])
        try:
            code = await self._be_worker(folder, begun)
            if begun.done() and self._transport:  # Envoy runs: it ends by itself, and writes its log to the end
                self._is_ending = True
                _give_up_in(END_S)
                await self._transport.end()
        except BaseException:
            log.critical("the server inside Envoy has failed", exc_info=True)
            code = DIED
        shutil.rmtree(folder, ignore_errors=True)  # keys lie there, and the supervisor may be gone
        if not self._is_ending or code:
            os._exit(code)

    async def _be_worker(self, folder: Path, begun: "asyncio.Future[None]") -> int:
        """Be a worker, and return its exit code."""

        def make_transport(settings: Settings, services: Sequence[Service], dispatcher: Dispatcher) -> EnvoyTransport:
            self._transport = EnvoyTransport(
                services,
                dispatcher,
                max_message_bytes=settings.max_message_bytes,
                folder=folder,
                files=read_files(settings.static_files) if settings.static_files else {},
                begin=lambda: begun.set_result(None),
            )
            return self._transport

        link = socket.socket(fileno=int(os.environ[LINK]))
        return await worker.work(link, make_transport, beside=lambda settings: keep_certificates(settings, folder))

    def _end_with(self, loop: asyncio.AbstractEventLoop) -> None:
        """When the loop ends before Envoy does, end Envoy: it would take calls and never answer."""

        def watch() -> None:
            while loop.is_running():
                time.sleep(LOOK_S)
            if not self._is_ending:
                log.critical("the event loop has ended unexpectedly, and with it this server")
                os._exit(DIED)

        threading.Thread(target=watch, name="watch the loop", daemon=True).start()


def _give_up_in(seconds: float) -> None:
    """End this process by force, unless it has ended by then."""

    def give_up() -> None:
        log.critical("Envoy has not ended within %g s of being told to", seconds)
        os._exit(DIED)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()


def _handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what went wrong in the loop, but not that pyvoy answers a `receive()` whose call was cancelled meanwhile."""
    if not isinstance(context.get("exception"), asyncio.InvalidStateError):
        loop.default_exception_handler(context)


app = Inside()
