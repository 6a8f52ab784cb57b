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
from google.protobuf.message import Message

from pipeline.errors import PublishError
from protos.artifact.layout import (
    CURRENT,
    CURRENT_MAX_BYTES,
    FILE_MAX_BYTES,
    HISTORY,
    HISTORY_MAX_BYTES,
    KNOWN_ANSWERS,
    MANIFEST,
    MANIFEST_MAX_BYTES,
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
GARBLED = (json_format.ParseError, UnicodeDecodeError, RecursionError, UnusableFileError)

LOCK_WAIT_S = 30.0  # a writer needs milliseconds


class ModelRepository:
    """One model's folder, `<repository>/<model>`; `writing` holds its lock, and only then may it be changed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock and clear what a killed writer left; the kernel frees the lock whatever ends us.

        Raises PublishError when something cannot be written, here or in the block.
        """
        try:
            make_directory(self.directory)
            with (self.directory / LOCK).open("a") as lock:
                self._acquire(lock.fileno())
                self._recover()
                yield
        except OSError as error:
            raise PublishError(f"{error.filename or self.directory}: cannot be written: {error.strerror}") from error

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
        return [number for number in self._numbers() if _is_directory(self.path(number))]

    def _numbers(self) -> list[int]:
        """Every number that a name in the folder uses, whatever is behind it."""
        paths = self.directory.iterdir() if self.directory.is_dir() else ()
        return sorted(number for path in paths if (number := version_number(path.name)) is not None)

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
        except (OSError, *GARBLED) as error:
            raise PublishError(f"{path}: cannot be read: {error}; remove that version directory") from error

    def is_whole(self, version: int) -> bool:
        """Whether a version has its files, each with the hash that its manifest names."""
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
        return [
            version
            for version in self.versions()
            if self.readable_manifest(version) is not None and self.is_whole(version)
        ]

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
            raise PublishError(f"{path}: cannot be read: {error.strerror}; check its permissions") from error

    def current_manifest(self) -> Manifest | None:
        """The manifest of the version that CURRENT names; None where there is none, or none that can be read."""
        version = self.current().version
        try:
            return self.manifest(version) if version else None
        except PublishError:
            return None

    def history(self) -> list[HistoryEntry]:
        """Every readable line of HISTORY; a last one without its end is being written, or its writer was killed."""
        try:
            lines = self._history_lines()
        except UnusableFileError as error:
            logger.warning("%s; the history is skipped", error)
            return []
        return [entry for line in lines if (entry := _history_entry(line)) is not None]

    def _history_lines(self) -> list[bytes]:
        try:
            return read_file(self.directory / HISTORY, HISTORY_MAX_BYTES).split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise PublishError(f"{self.directory / HISTORY}: cannot be read: {error.strerror}") from error

    def next_version(self) -> int:
        """The lowest number above all that were ever used."""
        named = [entry.version for entry in self.history()]
        return 1 + max([0, self.current().version, *self._numbers(), *named])

    def point_at(self, version: int, event: str) -> Current:
        """Make `version` current, and write it to HISTORY as `event`."""
        before = self.current()
        current = Current(
            version=version,
            sha256=sha256_of(self.path(version) / MANIFEST),
            previous=before.version,
            generation=1 + max([before.generation, *(entry.generation for entry in self.history())]),
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
        self._append_history(HistoryEntry(event="reject", reason=reason, fingerprint=fingerprint))

    def _recover(self) -> None:
        """Undo what a killed writer began and finish what it had made visible."""
        shutil.rmtree(self.directory / STAGING, ignore_errors=True)
        self._set_bad_history_aside()
        self._truncate_torn_history()
        current, history = self.current(), self.history()
        if current.generation > max([0, *(entry.generation for entry in history)]):
            known = any(entry.version == current.version for entry in history)
            self._append_change("promote" if known else "publish", current)

    def _set_bad_history_aside(self) -> None:
        """Keep a damaged HISTORY under another name, and its readable lines under its own."""
        try:
            lines = self._history_lines()
        except UnusableFileError:
            lines, good = [], None
        else:
            good = [line for line in lines if _history_entry(line) is not None]
        if good == lines and good is not None:
            return
        path = self.directory / HISTORY
        number = 1 + len(list(self.directory.glob(f"{HISTORY}.bad-*")))
        aside = path.with_name(f"{HISTORY}.bad-{number}")
        path.rename(aside)
        logger.warning("%s: was damaged; it is kept as %s, its readable lines stay", path, aside.name)
        if good:
            replacement = self.directory / STAGING / HISTORY
            replacement.parent.mkdir(exist_ok=True)
            write_durably(replacement, b"".join(line + b"\n" for line in good), mode=0o644)
            replacement.replace(path)
        sync_directory(self.directory)

    def _truncate_torn_history(self) -> None:
        path = self.directory / HISTORY
        content = path.read_bytes() if path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            os.truncate(path, len(whole))

    def note_repeat(self, version: int, fingerprint: str) -> None:
        """Write to HISTORY that a run of this fingerprint made `version` once more; CURRENT stays as it is."""
        self._append_history(
            HistoryEntry(
                event="repeat",
                version=version,
                generation=self.current().generation,
                sha256=sha256_of(self.path(version) / MANIFEST),
                fingerprint=fingerprint,
            )
        )

    def _append_change(self, event: str, current: Current) -> None:
        self._append_history(
            HistoryEntry(event=event, version=current.version, generation=current.generation, sha256=current.sha256)
        )

    def _append_history(self, entry: HistoryEntry) -> None:
        entry.time.GetCurrentTime()
        with (self.directory / HISTORY).open("ab") as file:
            file.write(to_json(entry, indent=None))
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())


def to_json(message: Message, indent: int | None = 2) -> bytes:
    """A message of the contract as it stands in a file, with a newline at its end."""
    text = json_format.MessageToJson(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,  # a seed of 0 is a seed
        sort_keys=True,
        indent=indent,
    )
    return f"{text}\n".encode()


def _is_directory(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _is_intact(path: Path, file: File) -> bool:
    try:
        return sha256_of(path, min(file.size_bytes or FILE_MAX_BYTES, FILE_MAX_BYTES)) == file.sha256
    except (FileNotFoundError, NotADirectoryError, UnusableFileError):
        return False


def _history_entry(line: bytes) -> HistoryEntry | None:
    try:
        return json_format.Parse(line, HistoryEntry(), ignore_unknown_fields=True)
    except GARBLED:
        return None


def make_directory(directory: Path) -> None:
    """Create a directory and its parents, readable by everybody whatever the umask; what exists is not changed."""
    if not directory.is_dir():
        make_directory(directory.parent)
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)
        sync_directory(directory.parent)


def write_durably(path: Path, content: bytes, mode: int = 0o444) -> None:
    """Write a new file that everybody may read, by default read-only, and wait until it is on the disk."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())


def sync_directory(directory: Path) -> None:
    """Wait until the names in a directory are on the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
