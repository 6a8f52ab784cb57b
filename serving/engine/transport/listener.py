"""Listens on a port, and keeps the connections that come in by it."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable

from serving.engine.transport.connection import Connection, Limits
from serving.engine.transport.exchange import Exchange
from serving.engine.transport.http2 import Http2
from serving.engine.transport.port import addresses, cannot_listen

BACKLOG = 1024
CHECK_INTERVAL_S = 1.0
"""How often the timers of connections are checked."""

POLL_S = 0.01

log = logging.getLogger(__name__)


class Listener:
    """Gives the requests of all connections to `begin`; what that raises ends its exchange alone."""

    def __init__(self, begin: Callable[[Exchange], None], limits: Limits) -> None:
        self._begin = begin
        self.limits = limits
        self.held_bytes = 0
        self._connections: set[Connection] = set()
        self._servers: list[asyncio.Server] = []
        self._timer: asyncio.TimerHandle | None = None

    async def start(self, host: str, port: int, *, shares_port: bool = False) -> int:
        """Listen on every address that `host` means here, and return the port; 0 takes a free one. Raises OSError.

        With `shares_port` other processes that do the same may listen on it too.
        """
        loop = asyncio.get_running_loop()
        try:
            for family, address in addresses(host):
                listening = _bound(family, address, port, shares_port=shares_port)
                port = listening.getsockname()[1]
                self._servers.append(await loop.create_server(lambda: Http2(self), sock=listening, backlog=BACKLOG))
        except OSError as error:
            self._close()
            raise cannot_listen(f"{host}:{port}") from error
        self._check()
        return port

    def begin(self, exchange: Exchange) -> None:
        """Hand a request to its handler, unless all together hold too much."""
        self._begin(exchange)

    def opened(self, connection: Connection) -> bool:
        """Count it."""
        if len(self._connections) >= self.limits.max_connections:
            log.warning("a connection is closed: there are %d, at most %d may be", *[self.limits.max_connections] * 2)
            return False
        self._connections.add(connection)
        return True

    def closed(self, connection: Connection) -> None:
        """Count it no more."""
        self._connections.discard(connection)

    def drain(self) -> None:
        """Tell callers to send nothing more on their connections; what they send all the same is still answered."""
        for connection in list(self._connections):
            connection.drain()

    async def stop(self, grace_s: float) -> None:
        """Close the port, let open requests be answered for at most `grace_s` seconds, then close every connection."""
        self._close()
        for connection in list(self._connections):
            connection.finish()
        give_up = time.monotonic() + grace_s
        while any(connection.is_busy for connection in self._connections) and time.monotonic() < give_up:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        for connection in list(self._connections):
            connection.end()
        await asyncio.sleep(0)  # so that they hear of it

    def _close(self) -> None:
        if self._timer:
            self._timer.cancel()
        for server in self._servers:
            server.close()

    def _check(self) -> None:
        now = time.monotonic()
        for connection in list(self._connections):
            try:
                connection.check(now)
            except Exception:
                log.exception("a connection cannot be checked")
                connection.transport.abort()
        self._timer = asyncio.get_running_loop().call_later(CHECK_INTERVAL_S, self._check)


def _bound(family: int, address: str, port: int, *, shares_port: bool) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shares_port:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind((address, port))
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening
