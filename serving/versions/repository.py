"""Follows a model repository: poll, check, load, warm up, swap, retire.

The repository is only ever read. If the version in CURRENT cannot be loaded, the previous one keeps serving; the load
is retried when one of its files changes, and with backoff. The same holds for further versions, which serve calls that
name them.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from protos.artifact.layout import CURRENT, HISTORY
from protos.artifact.v1.manifest_pb2 import Current
from serving.errors import (
    HistoryError,
    HistoryNotReadyError,
    NoModelError,
    UnknownVersionError,
    VersionHungError,
    VersionNotReadyError,
    VersionRefusedError,
)
from serving.session import Session
from serving.versions.limited import LimitedThreads
from serving.versions.loaded import Loaded, LoadedVersions
from serving.versions.loading import VersionLoader
from serving.versions.manifest import Version, find_published, parse_current
from serving.versions.poll import LIMIT_S, Poll, poll_current, poll_versions
from serving.versions.retry import RetryPolicy

log = logging.getLogger(__name__)

NO_MODEL_RETRY_S = 1.0
WORDS = ("current", "previous")
"""What a version may be called beside its number."""

LOAD_LIMIT_S = 120.0

GATE_LOOK_S = 0.1
"""While a version waits at the gate: how often CURRENT is looked at, since it may name another one by then."""


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
    is_retrying: bool = False
    """Whether the reason may pass by itself; else the version is rejected until its files change."""


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
    calls that name none. A load that exceeds `load_limit_s` is abandoned.
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
        load_limit_s: float = LOAD_LIMIT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._loader = VersionLoader(directory, load, load_limit_s)
        self._on_swap = on_swap
        self._on_refusal = on_refusal
        self._gate = gate
        self._names = versions
        self._polls = LimitedThreads()  # not the loader's: eight loads that hang must not end the polling
        self._clock = clock
        self._seen: Poll | None = Poll(None)
        self._has_looked = False
        self._loaded: Loaded | None = None
        self._versions = LoadedVersions()
        self._refused: dict[int, Refusal] = {}
        self._retries: dict[int, RetryPolicy] = {}
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

    @property
    def refusals(self) -> list[Refusal]:
        """Everything that this server should serve and does not."""
        return [*([self.refusal] if self.refusal else []), *self._refused.values()]

    async def watch(self, poll_s: float) -> None:
        """Refresh forever, every `poll_s` seconds."""
        while True:
            await asyncio.sleep(poll_s)
            try:
                await self.refresh()
            except Exception:  # a watcher that ends would leave the server on an old version until restart
                log.exception("polling %s failed", self._directory)
                self._seen = None  # equal to no poll: whatever stands there is followed anew

    async def refresh(self) -> None:
        """Poll CURRENT once; if it has changed, or a failed load is due again, load what it names and swap."""
        poll = await self._poll()
        if not (self._has_looked or self._loaded or poll.content or poll.fault):
            log.warning("waiting for a first version: %s is not there", self._directory / CURRENT)
        self._has_looked = True
        if poll != self._seen:
            self._seen = poll
            self._retries.clear()
            if poll.content is None:
                fault = poll.fault or f"{self._directory / CURRENT}: is missing"
                self._reject(Refusal(0, 0, fault, is_retrying=poll.may_pass))
            else:
                await self._follow(poll.content)
        elif poll.content is not None and await self._is_due():
            await self._follow(poll.content)

    async def _poll(self) -> Poll:
        return await poll_current(self._polls, self._directory)

    async def _is_due(self) -> bool:
        """Whether a version that could not be loaded is to be tried again."""
        states = await poll_versions(self._polls, self._directory, list(self._retries))
        return any(state and self._retries[version].is_due(state) for version, state in states.items())

    async def _follow(self, content: bytes) -> None:
        current = Current()
        try:
            current = parse_current(content)
            if self.refusal or self._loaded is None or current != self._loaded.current:
                if not await self._switch(current, content):
                    self._seen = None
                    return
                self.refusal = None
        except VersionRefusedError as error:
            self._reject(_refusal(current, error, current.sha256))
        else:
            await self._follow_others(current, content)

    async def _switch(self, current: Current, content: bytes) -> bool:
        """Load what CURRENT names and swap; False where CURRENT changes before that may serve."""
        is_new = self._loaded is None or current.sha256 != self._loaded.current.sha256
        loaded = await self._ready(current) if is_new else None
        if self._gate and not await self._passes(self._gate, current, content):
            return False
        if loaded:
            self._swap(loaded)
        elif self.refusal:
            log.info("%s is valid again; still serving version %d", CURRENT, current.version)
        return True

    async def _passes(self, gate: SwapGate, current: Current, content: bytes) -> bool:
        """Wait at the gate; False when CURRENT changes meanwhile, which some may have seen and others not."""
        waits = asyncio.ensure_future(gate.wait(current))
        try:
            while not (await asyncio.wait({waits}, timeout=GATE_LOOK_S))[0]:
                if (await self._poll()).content != content:
                    return False
            return True
        finally:
            waits.cancel()

    async def _follow_others(self, current: Current, content: bytes) -> None:
        """Hold the versions that are wanted beside the current one, and no others."""
        numbers = {"current": current.version, "previous": current.previous}
        wanted = {numbers[name] if name in numbers else int(name) for name in self._names} - {0, current.version}
        self._versions.keep({current.version, *wanted})
        self._refused = {version: refusal for version, refusal in self._refused.items() if version in wanted}
        for version in sorted(wanted):
            if (await self._poll()).content != content:
                self._seen = None  # as above: a new CURRENT does not wait for these
                return
            try:
                self._versions.hold(await self._ready(version))
                self._refused.pop(version, None)
            except VersionRefusedError as error:
                if isinstance(error, HistoryError) and self._versions.get(version):
                    log.warning("version %d stays: %s", version, error)
                    continue
                self._versions.let_go(version)
                self._reject(_refusal(Current(version=version, generation=current.generation), error), is_further=True)

    async def _ready(self, wanted: Current | int) -> Loaded:
        """A version that CURRENT names, or a number that HISTORY names, verified: loaded already, or loaded now.

        Raises VersionRefusedError, and then knows when to try again.
        """
        version = wanted if isinstance(wanted, int) else wanted.version
        # Before anything is read: whatever changes from here on is a reason for another try.
        state = (await poll_versions(self._polls, self._directory, [version]))[version]
        try:
            loaded = await self._find_or_load(wanted)
        except VersionRefusedError as error:
            is_over = error.is_over if isinstance(error, VersionHungError) else lambda: True
            retry = self._retries.setdefault(version, RetryPolicy(self._clock))
            retry.failed(state, may_pass=isinstance(error, VersionNotReadyError), is_over=is_over)
            raise
        self._retries.pop(version, None)
        return loaded

    async def _find_or_load(self, wanted: Current | int) -> Loaded:
        current = await self._published(wanted) if isinstance(wanted, int) else wanted
        held = self._versions.get(current.version)
        if held is not None and held.current.sha256 == current.sha256:
            return replace(held, current=current)
        return Loaded(await self._loader.load(current), current, time.time())

    async def _published(self, version: int) -> Current:
        try:
            return await self._polls.run(partial(find_published, self._directory, version), LIMIT_S)
        except OSError as error:  # TimeoutError is one
            reason = error.strerror or f"no answer within {LIMIT_S:g} s"
            raise HistoryNotReadyError(f"{HISTORY}: cannot be read: {reason}") from error

    def _swap(self, loaded: Loaded) -> None:
        """Let `loaded` answer calls that name no version; the one before goes on by its number until it is let go."""
        self._loaded = loaded
        self._versions.hold(loaded)
        version, provider = loaded.current.version, loaded.session.provider
        log.info("serving version %d (generation %d, %s)", version, loaded.current.generation, provider)
        self._on_swap(loaded)

    def _reject(self, refusal: Refusal, *, is_further: bool = False) -> None:
        """Keep why a version is not served; log and report it when its state changes, not at every try."""
        before = self._refused.get(refusal.version) if is_further else self.refusal
        if is_further:
            self._refused[refusal.version] = refusal
        else:
            self.refusal = refusal
        if before and replace(before, reason=refusal.reason) == refusal:
            return
        serving = f"still serving version {self._loaded.current.version}" if self._loaded else "no version is served"
        what = f"version {refusal.version}" if refusal.version else CURRENT
        if refusal.is_retrying:
            log.warning("cannot load %s yet: %s; retrying; %s", what, refusal.reason, serving)
        else:
            log.error("rejected %s: %s; %s", what, refusal.reason, serving)
        self._on_refusal(refusal)


def _refusal(current: Current, error: VersionRefusedError, sha256: str = "") -> Refusal:
    return Refusal(current.version, current.generation, str(error), sha256, isinstance(error, VersionNotReadyError))
