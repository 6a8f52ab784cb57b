"""Reads and loads a version in a thread with a time limit, and says of each failure whether it may pass."""

import logging
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from protos.artifact.v1.manifest_pb2 import Current
from serving.errors import VersionHungError, VersionNotReadyError, VersionRefusedError
from serving.session import Session
from serving.versions.limited import HungError, LimitedThreads
from serving.versions.manifest import Version, read_version

log = logging.getLogger(__name__)


class VersionLoader:
    """Makes sessions of the versions in `directory`: `load` makes one of a version that was read, and proves it."""

    def __init__(self, directory: Path, load: Callable[[Version], Session], limit_s: float) -> None:
        self._directory = directory
        self._load = load
        self._threads = LimitedThreads()
        self.limit_s = limit_s

    async def load(self, current: Current) -> Session:
        """A session of the version that `current` names.

        Raises VersionNotReadyError for what may pass, VersionHungError for what exceeds the limit and is abandoned, and
        VersionRefusedError for the rest.
        """
        try:
            return await self._threads.run(partial(self._read_and_load, current), self.limit_s)
        except VersionRefusedError:
            raise
        except HungError as error:
            late = f"it did not load within {self.limit_s:g} s"
            reason = late if error.abandoned else "it was not loaded, since other loads hang"
            raise VersionHungError(reason, partial(_is_over, error.abandoned)) from error
        except (OSError, MemoryError) as error:
            raise VersionNotReadyError(f"loading failed: {str(error) or type(error).__name__}") from error
        except Exception as error:
            log.exception("loading from %s failed", self._directory)
            raise VersionRefusedError(f"loading failed: {type(error).__name__}") from error

    def _read_and_load(self, current: Current) -> Session:
        return self._load(read_version(self._directory, current))


def _is_over(abandoned: "Future[Session] | None") -> bool:
    """Whether an abandoned load has ended by now; not where a run had to be ended: the next one would loop too."""
    return not abandoned or (abandoned.done() and not isinstance(abandoned.exception(), VersionHungError))
