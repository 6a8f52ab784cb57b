"""The line between supervisor and worker: JSON objects, one a line, over a pair of sockets.

Its end is news too: the kernel closes it whatever way a process goes, SIGKILL included.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Self

MAX_LINE_BYTES = 2**24


class Link:
    """One end of it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> Self:
        """The end that this socket is."""
        return cls(*await asyncio.open_unix_connection(sock=end, limit=MAX_LINE_BYTES))

    def send(self, **message: Any) -> None:
        """Tell the other end; nothing happens when it is gone."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps(message).encode() + b"\n")

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """What the other end tells, until it is gone."""
        with suppress(ConnectionError):
            async for line in self._reader:
                if line.endswith(b"\n"):  # else it died while it wrote
                    yield json.loads(line)

    async def close(self) -> None:
        """Send what is left, and go."""
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()
