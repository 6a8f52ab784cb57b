"""The versions that are loaded, by their numbers; what is held no more is freed with the last batch that runs it."""

import logging
import weakref
from collections.abc import Collection
from dataclasses import dataclass

from protos.artifact.v1.manifest_pb2 import Current
from serving.session import Session

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """A version that answers."""

    session: Session
    current: Current
    """What names it: CURRENT, or its last line in HISTORY."""
    loaded_s: float
    """When it began to answer, seconds since 1970."""


class LoadedVersions:
    """One session a version: proved once, and held until it is let go."""

    def __init__(self) -> None:
        self._held: dict[int, Loaded] = {}

    @property
    def numbers(self) -> list[int]:
        """The versions, in ascending order."""
        return sorted(self._held)

    def get(self, version: int) -> Loaded | None:
        """What answers calls that name `version`, if it is loaded."""
        return self._held.get(version)

    def hold(self, loaded: Loaded) -> None:
        """Have `loaded` answer by its number."""
        version = loaded.current.version
        if (before := self._held.get(version)) is not None and before.session is not loaded.session:
            self.let_go(version)
        self._held[version] = loaded

    def let_go(self, version: int) -> None:
        """Answer by this number no more; batches that still run hold the session, and with the last it is freed."""
        if (loaded := self._held.pop(version, None)) is not None:
            weakref.finalize(loaded.session, log.info, "version %d is retired", version).atexit = False

    def keep(self, versions: Collection[int]) -> None:
        """Let go of all but these."""
        for version in self.numbers:
            if version not in versions:
                self.let_go(version)
