"""Follows a model repository: watch, check, load, warm, swap, retire.

The repository is only ever read. Whatever is wrong with what CURRENT names, the version that answers goes on answering,
and the fault is not tried again until CURRENT changes. The same holds for further versions, which answer calls that
name them.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from protos.artifact.layout import CURRENT
from protos.artifact.v1.manifest_pb2 import Current
from serving.errors import HistoryError, NoModelError, UnknownVersionError, VersionRefusedError
from serving.session import Session
from serving.versions.loaded import Loaded, LoadedVersions
from serving.versions.manifest import Version, find_published, parse_current, read_version

log = logging.getLogger(__name__)

NO_MODEL_RETRY_S = 1.0
WORDS = ("current", "previous")
"""What a version may be called beside its number."""

GATE_LOOK_S = 0.1
"""While a version waits at the gate: how often CURRENT is looked at, since it may name another one by then."""

R = TypeVar("R")


@dataclass(frozen=True)
class Refusal:
    """A version that CURRENT names, or that is to be loaded beside it, and that this server does not serve."""

    version: int
    """0 where CURRENT itself could not be read."""
    generation: int
    """0 where CURRENT itself could not be read."""
    reason: str
    sha256: str = ""
    """Of the manifest of what CURRENT names; empty where CURRENT itself could not be read, and for further versions."""


class SwapGate(Protocol):
    """What a version passes before it answers, where several processes swap together."""

    async def wait(self, current: Current, /) -> None:
        """Return when what CURRENT names, loaded and proved, may answer."""

    def refused(self, refusal: Refusal, /) -> None:
        """Is told of what this process does not serve."""


class Repository:
    """The newest good version of one model, loaded, and beside it those that `versions` names: WORDS and numbers.

    `load` makes a session of a version and proves it; it runs in a thread. `on_swap` and `on_refusal` are told of
    what became of CURRENT; `on_refusal` of further versions too. With a `gate`, a version waits there before it answers
    calls that name none.
    """

    def __init__(
        self,
        directory: Path,
        load: Callable[[Version], Session],
        on_swap: Callable[[Loaded], None] = lambda _: None,
        on_refusal: Callable[[Refusal], None] = lambda _: None,
        gate: SwapGate | None = None,
        *,
        versions: Sequence[str] = (),
    ) -> None:
        self._directory = directory
        self._load = load
        self._on_swap = on_swap
        self._on_refusal = on_refusal
        self._gate = gate
        self._names = versions
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="load")  # of its own: nothing else may delay a swap
        self._seen: object = None
        self._has_looked = False
        self._loaded: Loaded | None = None
        self._versions = LoadedVersions()
        self._refused: dict[int, Refusal] = {}
        self.refusal: Refusal | None = None

    @property
    def loaded(self) -> Loaded:
        """What answers calls that name no version; raises NoModelError while there is nothing."""
        if self._loaded is None:
            reason = f" ({self.refusal.reason})" if self.refusal else ""
            raise NoModelError(f"no model version is loaded yet{reason}; try again", retry_after_s=NO_MODEL_RETRY_S)
        return self._loaded

    @property
    def loaded_versions(self) -> list[int]:
        """Every version that answers calls which name it, in ascending order."""
        return self._versions.numbers

    def find(self, version: int) -> Loaded:
        """What answers calls that name `version`, or none (0); raises NoModelError and UnknownVersionError."""
        if not version:
            return self.loaded
        if found := self._versions.get(version):
            return found
        current = self.loaded.current.version
        reason = f" ({self._refused[version].reason})" if version in self._refused else ""
        shown = ", ".join(map(str, self.loaded_versions))
        raise UnknownVersionError(
            f"model_version: version {version} is not loaded{reason}; expected one of {shown}, or 0 for the current, "
            f"{current}; the server's --versions has more of them loaded",
            field="model_version",
            metadata={"model_version": version, "loaded_versions": shown},
        )

    def session(self, version: int) -> Session:
        """The session that answers calls which name `version`; raises what `find` raises."""
        if not version and self._loaded is not None:  # the usual call
            return self._loaded.session
        return self.find(version).session

    async def restore(self, current: Current) -> None:
        """Before the first look at CURRENT: load what other processes of this server answer with, if it is still there.

        So a process that replaces one answers like the others, also while CURRENT names what nobody can serve.
        """
        try:
            self._swap(await self._ready(current))
        except VersionRefusedError as error:
            log.warning("cannot load version %d, with which others answer: %s", current.version, error)

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
        self.refusal = Refusal(0, 0, f"{self._directory / CURRENT} cannot be read any more")
        self._tell(self.refusal)

    async def _follow(self, content: bytes) -> None:
        current = Current()
        try:
            current = parse_current(content)
            is_new = self._loaded is None or current.sha256 != self._loaded.current.sha256
            loaded = await self._ready(current) if is_new else None
            if self._gate and not await self._passes(self._gate, current, content):
                self._seen = object()  # equal to nothing: whatever stands there is followed anew
                return
            if loaded:
                self._swap(loaded)
            self.refusal = None
        except VersionRefusedError as error:
            self.refusal = Refusal(current.version, current.generation, str(error), current.sha256)
            self._tell(self.refusal)
        else:
            await self._follow_others(current, content)

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

    async def _follow_others(self, current: Current, content: bytes) -> None:
        """Hold the versions that are wanted beside the current one, and no others."""
        numbers = {"current": current.version, "previous": current.previous}
        wanted = {numbers[name] if name in numbers else int(name) for name in self._names} - {0, current.version}
        self._versions.keep({current.version, *wanted})
        self._refused = {}
        for version in sorted(wanted):
            if await self._in_thread(self._read_current) != content:
                self._seen = object()  # as above: a new CURRENT does not wait for these
                return
            try:
                published = await self._in_thread(partial(find_published, self._directory, version))
                self._versions.hold(await self._ready(published))
            except VersionRefusedError as error:
                if isinstance(error, HistoryError) and self._versions.get(version):
                    log.warning("version %d stays: %s", version, error)
                    continue
                self._versions.let_go(version)
                self._refused[version] = Refusal(version, current.generation, str(error))
                self._tell(self._refused[version])

    async def _ready(self, current: Current) -> Loaded:
        """The version that `current` names, proved: what is loaded already, else loaded now.

        Raises VersionRefusedError.
        """
        held = self._versions.get(current.version)
        if held is not None and held.current.sha256 == current.sha256:
            return replace(held, current=current)
        try:
            session = await self._in_thread(lambda: self._load(read_version(self._directory, current)))
        except VersionRefusedError:
            raise
        except Exception as error:
            log.exception("loading version %d failed", current.version)
            raise VersionRefusedError(f"loading failed: {type(error).__name__}") from error
        return Loaded(session, current, time.time())

    def _swap(self, loaded: Loaded) -> None:
        """Let `loaded` answer calls that name no version; the one before goes on by its number until it is let go."""
        self._loaded = loaded
        self._versions.hold(loaded)
        version, provider = loaded.current.version, loaded.session.provider
        log.info("version %d answers now (generation %d, %s)", version, loaded.current.generation, provider)
        self._on_swap(loaded)

    def _tell(self, refusal: Refusal) -> None:
        goes_on = f"version {self._loaded.current.version} goes on" if self._loaded else "no version answers"
        log.error("refused version %d: %s; %s", refusal.version, refusal.reason, goes_on)
        self._on_refusal(refusal)
