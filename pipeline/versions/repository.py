"""The model repository as its only writer sees it: numbers, CURRENT, HISTORY, and the lock around all of them.

Every write is durable before the next one begins, and each of them leaves something that a reader may read: a process
that is killed between any two leaves the version that was current before, or the one that is current after.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from google.protobuf import json_format
from google.protobuf.message import Message

from pipeline.errors import PublishError
from protos.artifact.layout import CURRENT, HISTORY, KNOWN_ANSWERS, MANIFEST, MODEL, sha256_of
from protos.artifact.v1.manifest_pb2 import Current, HistoryEntry, Manifest

LOCK = ".lock"
STAGING = ".staging"
CARD = "README.md"
REPORT = "report"

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
            self.directory.mkdir(parents=True, exist_ok=True)
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
        """Every version directory, in order."""
        paths = self.directory.iterdir() if self.directory.is_dir() else ()
        return sorted(int(path.name) for path in paths if path.name.isdecimal())

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
            return json_format.Parse(path.read_bytes(), Manifest(), ignore_unknown_fields=True)
        except (OSError, json_format.ParseError, UnicodeDecodeError) as error:
            raise PublishError(f"{path}: cannot be read: {error}; remove that version directory") from error

    def is_whole(self, version: int) -> bool:
        """Whether a version has its files, each with the hash that its manifest names."""
        directory, manifest = self.path(version), self.manifest(version)
        named = {file.path: file.sha256 for file in manifest.files}
        return (
            manifest.version == version
            and {MODEL, KNOWN_ANSWERS} <= named.keys()
            and all(
                (directory / name).is_file() and sha256_of(directory / name) == digest for name, digest in named.items()
            )
        )

    def current(self) -> Current:
        """What CURRENT says; empty where there is none, or none that can be read: the next writer mends it."""
        try:
            return json_format.Parse((self.directory / CURRENT).read_bytes(), Current(), ignore_unknown_fields=True)
        except (FileNotFoundError, json_format.ParseError, UnicodeDecodeError):
            return Current()

    def current_manifest(self) -> Manifest | None:
        """The manifest of the version that CURRENT names; None where there is none, or none that can be read."""
        version = self.current().version
        try:
            return self.manifest(version) if version else None
        except PublishError:
            return None

    def history(self) -> list[HistoryEntry]:
        """Every whole line of HISTORY; a last one without its end is being written, or its writer was killed."""
        path = self.directory / HISTORY
        lines = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
        try:
            return [json_format.Parse(line, HistoryEntry(), ignore_unknown_fields=True) for line in lines]
        except json_format.ParseError as error:
            raise PublishError(
                f"{path}: cannot be read: {error}; expected an artifact.v1.HistoryEntry a line"
            ) from error

    def next_version(self) -> int:
        """The lowest number above all that were ever used."""
        named = [entry.version for entry in self.history()]
        return 1 + max([0, self.current().version, *self.versions(), *named])

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
        self._truncate_torn_history()
        current, history = self.current(), self.history()
        if current.generation > max([0, *(entry.generation for entry in history)]):
            known = any(entry.version == current.version for entry in history)
            self._append_change("promote" if known else "publish", current)

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


def write_durably(path: Path, content: bytes) -> None:
    """Write a new file that everybody may read and nobody should change, and wait until it is on the disk."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), 0o444)
        os.fsync(file.fileno())


def sync_directory(directory: Path) -> None:
    """Wait until the names in a directory are on the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
