"""A poll of a model repository: what CURRENT holds, and the state of a version's files."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from protos.artifact.layout import CURRENT, CURRENT_MAX_BYTES, FEATURES, HISTORY, KNOWN_ANSWERS, MANIFEST, MODEL
from serving.errors import VersionNotReadyError, VersionRefusedError
from serving.versions.limited import LimitedThreads
from serving.versions.manifest import read

LIMIT_S = 10.0
"""A poll reads one small file: a disk that takes longer hangs."""

Signature = tuple[object, ...]
"""Inode, size and time of change of each file whose change triggers a new try; the error where there is none."""


class Poll(NamedTuple):
    """What stands in CURRENT."""

    content: bytes | None
    """None where it is missing or cannot be read."""
    fault: str = ""
    """Why it cannot be read; empty where it is missing."""
    may_pass: bool = True
    """Whether the fault may pass without a change of the file."""


async def poll_current(threads: LimitedThreads, directory: Path) -> Poll:
    """Read CURRENT of the model in `directory`."""
    path = directory / CURRENT
    try:
        return Poll(await threads.run(partial(read, path, CURRENT_MAX_BYTES), LIMIT_S))
    except TimeoutError:
        return Poll(None, f"{path}: cannot be read within {LIMIT_S:g} s")
    except OSError as error:
        return Poll(None, f"{path}: cannot be read: {error.strerror}")
    except VersionRefusedError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return Poll(None)
        return Poll(None, str(error), isinstance(error, VersionNotReadyError))


async def poll_versions(
    threads: LimitedThreads, directory: Path, versions: Sequence[int]
) -> Mapping[int, Signature | None]:
    """The state of each version's files; None where it cannot be read."""
    if not versions:
        return {}
    try:
        return await threads.run(lambda: {version: _signature(directory, version) for version in versions}, LIMIT_S)
    except OSError:  # TimeoutError is one
        return dict.fromkeys(versions)


def _signature(directory: Path, version: int) -> Signature:
    files = (directory / str(version) / name for name in (MANIFEST, MODEL, KNOWN_ANSWERS, FEATURES))
    return (_state(directory / HISTORY), *map(_state, files))


def _state(path: Path) -> object:
    try:
        status = path.stat()
    except OSError as error:
        return error.errno
    return status.st_ino, status.st_size, status.st_mtime_ns
