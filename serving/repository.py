"""Follows a model repository: watch, check, load, warm, swap, retire.

The repository is only ever read. Whatever is wrong with what CURRENT names, the version that answers goes on answering,
and the fault is not tried again until CURRENT changes.
"""

import asyncio
import logging
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from protos.artifact.v1.manifest_pb2 import Current
from serving.errors import NoModelError, VersionRefusedError
from serving.manifest import CURRENT, Version, parse_current, read_version
from serving.session import Session

log = logging.getLogger(__name__)

NO_MODEL_RETRY_S = 1.0

GATE_LOOK_S = 0.1
"""While a version waits at the gate: how often CURRENT is looked at, since it may name another one by then."""

R = TypeVar("R")


@dataclass(frozen=True)
class Refusal:
    """What CURRENT names and this server does not serve."""

    version: int
    """0 where CURRENT itself could not be read."""
    generation: int
    """0 where CURRENT itself could not be read."""
    reason: str
    sha256: str = ""
    """Of the version's manifest, as CURRENT says; empty where CURRENT itself could not be read."""


@dataclass(frozen=True)
class Loaded:
    """The session that answers now."""

    session: Session
    current: Current
    loaded_s: float
    """When it began to answer, seconds since 1970."""


class SwapGate(Protocol):
    """What a version passes before it answers, where several processes swap together."""

    async def wait(self, current: Current, /) -> None:
        """Return when what CURRENT names, loaded and proved, may answer."""

    def refused(self, refusal: Refusal, /) -> None:
        """Is told of what this process does not serve."""


class Repository:
    """The newest good version of one model, loaded.

    `load` makes a session of a version and proves it; it runs in a thread. `on_swap` and `on_refusal` are told of
    what became of CURRENT. With a `gate`, a version waits there before it answers.
    """

    def __init__(
        self,
        directory: Path,
        load: Callable[[Version], Session],
        on_swap: Callable[[Loaded], None] = lambda _: None,
        on_refusal: Callable[[Refusal], None] = lambda _: None,
        gate: SwapGate | None = None,
    ) -> None:
        self._directory = directory
        self._load = load
        self._on_swap = on_swap
        self._on_refusal = on_refusal
        self._gate = gate
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="load")  # of its own: nothing else may delay a swap
        self._seen: object = None
        self._has_looked = False
        self._loaded: Loaded | None = None
        self.refusal: Refusal | None = None

    @property
    def loaded(self) -> Loaded:
        """What answers now; raises NoModelError while there is nothing."""
        if self._loaded is None:
            reason = f" ({self.refusal.reason})" if self.refusal else ""
            raise NoModelError(f"no model version is loaded yet{reason}; try again", retry_after_s=NO_MODEL_RETRY_S)
        return self._loaded

    async def watch(self, poll_s: float) -> None:
        """Refresh for ever, every `poll_s` seconds."""
        while True:
            await asyncio.sleep(poll_s)
            try:
                await self.refresh()
            except Exception:  # a watcher that dies would leave the server on an old version for ever
                log.exception("looking at %s failed", self._directory)

    async def refresh(self) -> None:
        """Look at CURRENT once; when it changed, load what it names and swap, or say why not."""
        content = await self._in_thread(self._read_current)
        if content is None and self._loaded is None and not self._has_looked:
            log.warning("waiting for a first version: %s is not there", self._directory / CURRENT)
        self._has_looked = True
        if content == self._seen:
            return
        self._seen = content
        if content is None:
            self._forget_current()
        else:
            await self._follow(content)

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _in_thread(self, work: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _read_current(self) -> bytes | None:
        try:
            return (self._directory / CURRENT).read_bytes()
        except OSError:
            return None

    def _forget_current(self) -> None:
        self._refuse(Refusal(0, 0, f"{self._directory / CURRENT} cannot be read any more"))

    async def _follow(self, content: bytes) -> None:
        current = Current()
        try:
            current = parse_current(content)
            is_new = self._loaded is None or current.sha256 != self._loaded.current.sha256
            session = await self._in_thread(partial(self._prepare, current)) if is_new else None
            if self._gate and not await self._passes(self._gate, current, content):
                self._seen = object()  # equal to nothing: whatever stands there is followed anew
                return
            if session:
                self._swap(Loaded(session, current, time.time()))
            self.refusal = None
        except VersionRefusedError as error:
            self._refuse(Refusal(current.version, current.generation, str(error), current.sha256))
        except Exception as error:
            log.exception("loading version %d failed", current.version)
            reason = f"loading failed: {type(error).__name__}"
            self._refuse(Refusal(current.version, current.generation, reason, current.sha256))

    async def _passes(self, gate: SwapGate, current: Current, content: bytes) -> bool:
        """Wait at the gate; False when CURRENT changes meanwhile, which some may have seen and others not."""
        waits = asyncio.ensure_future(gate.wait(current))
        try:
            while not (await asyncio.wait({waits}, timeout=GATE_LOOK_S))[0]:
                if await self._in_thread(self._read_current) != content:
                    return False
            return True
        finally:
            waits.cancel()

    def _prepare(self, current: Current) -> Session:
        return self._load(read_version(self._directory, current))

    def _swap(self, loaded: Loaded) -> None:
        old, self._loaded = self._loaded, loaded
        version, provider = loaded.current.version, loaded.session.provider
        log.info("version %d answers now (generation %d, %s)", version, loaded.current.generation, provider)
        if old is not None:
            # Batches that still run hold the old session; with the last of them it is freed.
            weakref.finalize(old.session, log.info, "version %d is retired", old.current.version).atexit = False
        self._on_swap(loaded)

    def _refuse(self, refusal: Refusal) -> None:
        self.refusal = refusal
        goes_on = f"version {self._loaded.current.version} goes on" if self._loaded else "no version answers"
        log.error("refused version %d: %s; %s", refusal.version, refusal.reason, goes_on)
        self._on_refusal(refusal)
