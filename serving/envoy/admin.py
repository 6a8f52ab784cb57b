"""Envoy's admin interface, over a socket in a folder that only this process and Envoy share.

https://www.envoyproxy.io/docs/envoy/v1.39.3/operations/admin
"""

import asyncio
import re
import socket
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from serving.envoy.parts import Config

TIMEOUT_S = 5.0

ADMIN = "admin.sock"
"""The name of Envoy's admin socket in the folder that it shares with us; nobody else can reach it."""


def admin(folder: Path) -> Config:
    """The part of Envoy's configuration that lets `Admin` ask it."""
    return {"address": {"pipe": {"path": str(folder / ADMIN), "mode": 0o600}}}


class Admin:
    """Asks one Envoy. Every method raises OSError when it does not answer."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / ADMIN

    async def is_listening(self) -> bool:
        """Whether Envoy takes connections by now."""
        try:
            return await self.stat("listener_manager.workers_started") == 1
        except OSError:  # not even the admin interface is there yet
            return False

    async def drain(self) -> None:
        """Tell callers to go elsewhere, with GOAWAY; new connections are still taken, and told the same."""
        await self._ask("POST", "/drain_listeners?graceful&skip_exit")

    async def close(self) -> None:
        """Take no more connections; those that are there stay."""
        await self._ask("POST", "/drain_listeners")

    async def end(self) -> None:
        """Let Envoy end, as a SIGTERM would."""
        await self._ask("POST", "/quitquitquit")

    async def stat(self, name: str) -> int:
        """One figure; 0 where there is none."""
        answer = await self._ask("GET", f"/stats?filter=^{re.escape(name)}$")
        return int(answer.rpartition(": ")[2].strip() or 0)

    async def exposition(self) -> str:
        """All figures, in Prometheus' text format."""
        return await self._ask("GET", "/stats/prometheus")

    async def _ask(self, method: str, path: str) -> str:
        return await asyncio.to_thread(self._ask_now, method, path)

    def _ask_now(self, method: str, path: str) -> str:
        connection = _UnixConnection(self._path)
        try:
            connection.request(method, path)
            response = connection.getresponse()
            body = response.read().decode()
        except HTTPException as error:
            raise OSError(f"Envoy's admin interface broke off: {error!r}") from error
        finally:
            connection.close()
        if response.status != 200:
            raise OSError(f"Envoy answers {method} {path} with {response.status}: {body.strip()}")
        return body


class _UnixConnection(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("envoy", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
