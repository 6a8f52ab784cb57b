"""The model repository as its only writer sees it: numbers, CURRENT, HISTORY, and the lock around all of them.

Every write is durable before the next one begins, and each of them leaves something that a reader may read: a process
that is killed between any two leaves the version that was current before, or the one that is current after.
"""

import fcntl
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from google.protobuf import json_format

from pipeline.errors import PublishError
from pipeline.versions.durable import make_directory_durably, sync_directory, write_durably
from pipeline.versions.history import GARBLED, History, to_json
from protos.artifact.layout import (
    CURRENT,
    CURRENT_MAX_BYTES,
    FILE_MAX_BYTES,
    KNOWN_ANSWERS,
    MANIFEST,
    MANIFEST_MAX_BYTES,
    MAX_VERSION,
    MODEL,
    UnusableFileError,
    read_file,
    sha256_of,
    version_number,
)
from protos.artifact.v1.manifest_pb2 import Current, File, HistoryEntry, Manifest

LOCK = ".lock"
STAGING = ".staging"
CARD = "README.md"
REPORT = "report"

logger = logging.getLogger(__name__)

ROOM_BYTES = 64 << 20
"""What must be free before a training: a version has about 1 MB."""

UNREADABLE = "; check its permissions and the disk"

LOCK_WAIT_S = 30.0  # a writer needs milliseconds


class ModelRepository:
    """One model's folder, `<repository>/<model>`; `writing` holds its lock, and only then may it be changed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.history = History(directory)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock and clear what a killed writer left; the kernel frees the lock whatever ends us.

        Raises PublishError when something cannot be written, here or in the block.
        """
        try:
            make_directory_durably(self.directory)
            with (self.directory / LOCK).open("a") as lock:
                self._acquire(lock.fileno())
                self._recover()
                yield
        except OSError as error:
            raise PublishError(f"{error.filename or self.directory}: cannot be written: {error.strerror}") from error

    def check(self) -> None:
        """Before a training: whether it could be published. What is merely damaged is skipped later, and logged now.

        Raises PublishError where the folder cannot be written, CURRENT or HISTORY not be read, or the disk is full.
        """
        with self.writing():
            free_bytes = shutil.disk_usage(self.directory).free
            if free_bytes < ROOM_BYTES:
                raise PublishError(f"{self.directory}: {free_bytes} bytes are free, expected at least {ROOM_BYTES}")
        self.next_version()
        published = self.published()
        for version in published:
            self.readable_manifest(version)
        for name in sorted(path.name for path in self.directory.iterdir() if path.name.isdecimal()):
            if version_number(name) not in published:
                logger.warning(
                    "%s: is skipped: expected a directory with the manifest of its number", self.directory / name
                )

    def _acquire(self, lock: int) -> None:
        give_up = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > give_up:
                    raise PublishError(
                        f"{self.directory}: another run has been writing for {LOCK_WAIT_S:g} s"
                    ) from error
                time.sleep(0.05)

    def versions(self) -> list[int]:
        """Every version directory, in order; files and symbolic links are none."""
        paths = self.directory.iterdir() if self.directory.is_dir() else ()
        numbers = (version_number(path.name) for path in paths if path.is_dir() and not path.is_symlink())
        return sorted(number for number in numbers if number is not None)

    def demand_versions(self) -> None:
        """Refuse a mistyped path before a lock is made there; raises PublishError where there is no version."""
        if not self.versions():
            raise PublishError(f"{self.directory}: has no version; is it the right repository? (--repository, --model)")

    def path(self, version: int) -> Path:
        """Where a version lies."""
        return self.directory / str(version)

    def manifest(self, version: int) -> Manifest:
        """The manifest of a version; raises PublishError when it cannot be read."""
        path = self.path(version) / MANIFEST
        try:
            return json_format.Parse(read_file(path, MANIFEST_MAX_BYTES), Manifest(), ignore_unknown_fields=True)
        except OSError as error:
            advice = "" if isinstance(error, (FileNotFoundError, NotADirectoryError)) else UNREADABLE
            raise PublishError(f"{path}: cannot be read: {error.strerror}{advice}") from error
        except GARBLED as error:
            raise PublishError(f"{path}: cannot be read: {error}; remove that version directory") from error

    def is_whole(self, version: int) -> bool:
        """Whether a version has its files, each with the hash that its manifest names.

        Raises PublishError where the system does not let us read one of them: then nobody knows.
        """
        directory, manifest = self.path(version), self.manifest(version)
        return (
            manifest.version == version
            and {MODEL, KNOWN_ANSWERS} <= {file.path for file in manifest.files}
            and all(_is_intact(directory / file.path, file) for file in manifest.files)
        )

    def readable_manifest(self, version: int) -> Manifest | None:
        """The manifest of a version; None, with a warning, where it cannot be read."""
        try:
            return self.manifest(version)
        except PublishError as error:
            logger.warning("version %d is skipped: %s", version, error)
            return None

    def whole_versions(self) -> list[int]:
        """The versions that could be served, in order."""
        return [version for version in self.versions() if self.is_servable(version)]

    def is_servable(self, version: int) -> bool:
        """Whether a version is whole; False, with a warning, where a file of it cannot be read."""
        try:
            return self.is_whole(version)
        except PublishError as error:
            logger.warning("version %d is skipped: %s", version, error)
            return False

    def current(self) -> Current:
        """What CURRENT says; empty where there is none, or it is garbled: the next writer mends it.

        Raises PublishError where the file is there and the system does not let us read it.
        """
        path = self.directory / CURRENT
        try:
            return json_format.Parse(read_file(path, CURRENT_MAX_BYTES), Current(), ignore_unknown_fields=True)
        except (FileNotFoundError, *GARBLED):
            return Current()
        except OSError as error:
            raise PublishError(f"{path}: cannot be read: {error.strerror}{UNREADABLE}") from error

    def current_manifest(self) -> Manifest | None:
        """The manifest of the version that CURRENT names; None where there is none, or none that can be read."""
        version = self.current().version
        try:
            return self.manifest(version) if version else None
        except PublishError:
            return None

    def published(self) -> list[int]:
        """The versions that HISTORY knows, or that have a manifest of theirs, perhaps a damaged one, in order.

        Neither a folder that happens to be named by a number is among them, nor a copy of another version.
        """
        known = {entry.version for entry in self.history.entries()}
        return [version for version in self.versions() if version in known or self._has_own_manifest(version)]

    def _has_own_manifest(self, version: int) -> bool:
        try:
            return self.manifest(version).version == version
        except PublishError:
            return os.path.lexists(self.path(version) / MANIFEST)

    def next_version(self) -> int:
        """The lowest free number above all that were ever published.

        Raises PublishError where that is more than a version can have.
        """
        highest = max([self.history.highest_version(), self.current().version, *self.published()])
        number = highest + 1
        while os.path.lexists(self.path(number)):
            number += 1
        if number > MAX_VERSION:
            raise PublishError(
                f"{self.path(highest)}: no number is left above this version, at most {MAX_VERSION} is possible; train "
                "for a new --model"
            )
        return number

    def point_at(self, version: int, event: str) -> Current:
        """Make `version` current, and write it to HISTORY as `event`."""
        before = self.current()
        current = Current(
            version=version,
            sha256=sha256_of(self.path(version) / MANIFEST),
            previous=before.version,
            generation=1 + max([before.generation, *(entry.generation for entry in self.history.entries())]),
        )
        replacement = self.directory / STAGING / CURRENT
        replacement.parent.mkdir(exist_ok=True)
        write_durably(replacement, to_json(current))
        replacement.replace(self.directory / CURRENT)
        sync_directory(self.directory)
        self._append_change(event, current)
        return current

    def reject(self, reason: str, fingerprint: str) -> None:
        """Write to HISTORY that a candidate was refused, and why; it got no number, and CURRENT stays as it is."""
        self.history.append(HistoryEntry(event="reject", reason=reason, fingerprint=fingerprint))

    def _recover(self) -> None:
        """Undo what a killed writer began and finish what it had made visible."""
        shutil.rmtree(self.directory / STAGING, ignore_errors=True)
        self.history.mend(self.directory / STAGING)
        current, history = self.current(), self.history.entries()
        if current.generation > max([0, *(entry.generation for entry in history)]):
            known = any(entry.version == current.version for entry in history)
            self._append_change("promote" if known else "publish", current)

    def note_repeat(self, version: int, fingerprint: str) -> None:
        """Write to HISTORY that a run of this fingerprint made `version` once more; CURRENT stays as it is."""
        self.history.append(
            HistoryEntry(
                event="repeat",
                version=version,
                generation=self.current().generation,
                sha256=sha256_of(self.path(version) / MANIFEST),
                fingerprint=fingerprint,
            )
        )

    def _append_change(self, event: str, current: Current) -> None:
        self.history.append(
            HistoryEntry(event=event, version=current.version, generation=current.generation, sha256=current.sha256)
        )


def _is_intact(path: Path, file: File) -> bool:
    try:
        return sha256_of(path, min(file.size_bytes or FILE_MAX_BYTES, FILE_MAX_BYTES)) == file.sha256
    except (FileNotFoundError, NotADirectoryError, UnusableFileError):
        return False
    except OSError as error:
        raise PublishError(f"{path}: cannot be read: {error.strerror}{UNREADABLE}") from error
