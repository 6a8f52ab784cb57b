"""The door as a process: starts its Envoy, keeps its certificates, drains and ends it."""

import asyncio
import ctypes
import json
import logging
import signal
import subprocess
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from serving.door.config import envoy_config
from serving.door.settings import DoorSettings
from serving.engine.transport.port import ReservedPort
from serving.envoy.admin import Admin
from serving.envoy.certificates import keep_certificates, write_certificates
from serving.envoy.listener import STATS
from serving.envoy.program import command
from serving.errors import WorkerError

LOOK_S = 0.05
START_S = 30.0
"""Envoy may take so long to listen."""
END_S = 3.0
"""Envoy may take so long to end when it is told to."""

log = logging.getLogger(__name__)


class Door:
    """One Envoy, built from settings: `start`, then `drain`."""

    def __init__(self, settings: DoorSettings) -> None:
        self._settings = settings
        self._resources = ExitStack()
        self._envoy: asyncio.subprocess.Process | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Listen. Raises OSError where a port, a certificate or a file cannot be had, WorkerError where Envoy ends."""
        folder = Path(
            self._resources.enter_context(TemporaryDirectory(prefix="serving-door-", ignore_cleanup_errors=True))
        )
        try:
            settings = self._settings = self._with_ports(self._settings)
            write_certificates(settings, folder)
            config = folder / "envoy.json"
            config.write_text(json.dumps(envoy_config(settings, folder), indent=2))
            self._admin = Admin(folder)
            self._envoy = await asyncio.create_subprocess_exec(
                *command(settings, config, threads=settings.threads),
                stdin=subprocess.DEVNULL,
                preexec_fn=_end_with_parent,
            )
            await self._until_it_listens(self._envoy)
        except BaseException:
            await self._end_now()
            raise
        self._tasks.append(asyncio.create_task(keep_certificates(settings, folder)))

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._settings.port

    @property
    def metrics_port(self) -> int | None:
        """Where Prometheus is answered, if anywhere."""
        return self._settings.metrics_port

    async def broken(self) -> str:
        """Wait until Envoy ends although nobody told it to; return how it ended."""
        assert self._envoy is not None  # noqa: S101 - started
        code = await self._envoy.wait()
        return f"Envoy has ended unexpectedly, with exit code {code}"

    async def drain(self) -> None:
        """Say that this door closes, let calls in flight end, then end Envoy; what takes too long is cut off."""
        try:
            if self._envoy is not None and self._envoy.returncode is None:
                await self._drain(self._envoy)
        finally:
            await self._end_now()

    async def _drain(self, envoy: asyncio.subprocess.Process) -> None:
        log.info("draining: calls in flight get %g s", self._settings.drain_s)
        give_up = time.monotonic() + self._settings.drain_s
        with suppress(OSError):  # it may end meanwhile
            await self._admin.drain()
            await asyncio.sleep(self._settings.drain_linger_s)
            await self._admin.close()  # who comes now finds the door closed, rather than be cut off with it
            active = await self._until_idle(give_up)
            log.info("drained, %s", f"{active} calls were cut off" if active else "every call was answered")
            await self._admin.end()
            with suppress(TimeoutError):
                await asyncio.wait_for(envoy.wait(), END_S)

    def _with_ports(self, settings: DoorSettings) -> DoorSettings:
        """Settings with numbers for ports that were 0; they are held until the door ends."""
        found = {}
        for name in ("port", "metrics_port"):
            if (port := getattr(settings, name)) is not None:
                reserved = ReservedPort(settings.host, port)
                self._resources.callback(reserved.close)
                found[name] = reserved.number
        return settings.model_copy(update=found)

    async def _until_it_listens(self, envoy: asyncio.subprocess.Process) -> None:
        give_up = time.monotonic() + START_S
        while not await self._admin.is_listening():
            if envoy.returncode is not None:
                raise WorkerError(f"Envoy ended with exit code {envoy.returncode} before it listened; its log says why")
            if time.monotonic() > give_up:
                raise WorkerError(f"Envoy did not listen within {START_S:g} s; its log may say why")
            await asyncio.sleep(LOOK_S)

    async def _until_idle(self, give_up: float) -> int:
        """Wait for the last call; return how many are left when there is no more time."""
        while (active := await self._admin.stat(f"{STATS}downstream_rq_active")) and time.monotonic() < give_up:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)
        return active

    async def _end_now(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._envoy is not None and self._envoy.returncode is None:
            with suppress(ProcessLookupError):
                self._envoy.kill()
            await self._envoy.wait()
        self._resources.close()


def _end_with_parent() -> None:
    """A door that was killed leaves no Envoy behind, which would keep the port: prctl(2), PR_SET_PDEATHSIG."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
