"""Removes old versions: all but the current one, the one before it, the newest, and those that a person names."""

import shutil
from collections.abc import Collection
from dataclasses import dataclass

from pipeline.errors import PublishError
from pipeline.versions.durable import sync_directory
from pipeline.versions.repository import STAGING, ModelRepository
from protos.artifact.layout import CURRENT


@dataclass(frozen=True)
class Removed:
    """A version that is gone, or would be."""

    version: int
    size_bytes: int
    """Of all its files."""


def removable(model: ModelRepository, *, keep: int, protect: Collection[int] = ()) -> list[Removed]:
    """What `collect` would remove, the oldest first; changes nothing.

    Kept are the current version, the one that a rollback would bring back, the newest `keep` >= 1, and `protect`.
    Raises PublishError where CURRENT cannot tell which the current one is, or where `protect` names none of ours.
    """
    versions, current = model.published(), model.current()  # what is none of ours stays, and counts for nothing
    if versions and not current.version:
        raise PublishError(
            f"{model.directory / CURRENT}: names no version, so none can be told to be old; promote one first"
        )
    if unknown := sorted(set(protect) - set(versions)):
        raise PublishError(f"{model.directory}: has no version {unknown[0]} to protect; expected {versions}")
    # The newest always stays, so the highest number is never forgotten, even of a version that no history names.
    kept = {current.version, current.previous, *versions[-max(1, keep) :], *protect}
    return [Removed(version, _size_bytes(model, version)) for version in versions if version not in kept]


def collect(model: ModelRepository, *, keep: int, protect: Collection[int] = ()) -> list[Removed]:
    """Remove what `removable` lists, one version after the other, and return it.

    A version leaves by one rename into the staging folder, whose rest the next writer clears: whatever ends us, a
    number has a whole version behind it or none. Numbers are not used again. Raises PublishError.
    """
    if not model.versions():
        return []  # a mistyped path: no lock is made there
    with model.writing():
        removed = removable(model, keep=keep, protect=protect)
        for old in removed:
            _remove(model, old.version)
    return removed


def _remove(model: ModelRepository, version: int) -> None:
    gone = model.directory / STAGING / str(version)
    gone.parent.mkdir(exist_ok=True)
    model.path(version).rename(gone)
    sync_directory(model.directory)
    shutil.rmtree(gone)


def _size_bytes(model: ModelRepository, version: int) -> int:
    return sum(path.stat().st_size for path in model.path(version).rglob("*") if path.is_file())
