"""HISTORY.jsonl: one line for each change of a model repository. A damaged line stays one damaged line."""

import logging
import os
import re
from contextlib import suppress
from pathlib import Path

from google.protobuf import json_format
from google.protobuf.message import Message

from pipeline.errors import PublishError
from pipeline.versions.durable import sync_directory, write_durably
from protos.artifact.layout import HISTORY, HISTORY_MAX_BYTES, UnusableFileError, read_file
from protos.artifact.v1.manifest_pb2 import HistoryEntry

logger = logging.getLogger(__name__)

NUMBER = re.compile(rb'"version": ?([1-9][0-9]{0,8})\b')

GARBLED = (json_format.ParseError, UnicodeDecodeError, RecursionError, UnusableFileError)
"""What a file that is not of the contract raises when it is read."""


class History:
    """The history of the model in `directory`; only who holds its lock appends to it or mends it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / HISTORY

    def entries(self) -> list[HistoryEntry]:
        """Every readable line; a last one without its end is being written, or its writer was killed.

        Raises PublishError where the system does not let us read it.
        """
        try:
            lines = self._lines()
        except UnusableFileError:
            return []
        return [entry for line in lines if (entry := _parse(line)) is not None]

    def highest_version(self) -> int:
        """The highest number that any line names, also one that is damaged, here or in a file that was set aside."""
        numbers = [0]
        for path in (self._path, *self._directory.glob(f"{HISTORY}.bad-*")):
            with suppress(OSError, UnusableFileError):
                numbers += map(int, NUMBER.findall(read_file(path, HISTORY_MAX_BYTES)))
        return max(numbers)

    def append(self, entry: HistoryEntry) -> None:
        """Write a line, with the time, and wait until it is on the disk."""
        entry.time.GetCurrentTime()
        is_first = not self._path.exists()
        with self._path.open("ab") as file:
            file.write(to_json(entry, indent=None))
            file.flush()
            if is_first:
                os.fchmod(file.fileno(), 0o644)  # whatever the umask; later it is for its owner to say who may append
            os.fsync(file.fileno())
        if is_first:
            sync_directory(self._directory)  # else its name is lost

    def mend(self, staging: Path) -> None:
        """Keep a damaged file under another name and its readable lines under its own; cut off a torn last line.

        `staging` is a folder of the same file system that may be written. Each step leaves a history that is readable.
        """
        try:
            lines = self._lines()
        except UnusableFileError:
            self._path.rename(aside := self._aside())
        else:
            good = [line for line in lines if _parse(line) is not None]
            if good == lines:
                self._cut_torn_line()
                return
            staging.mkdir(exist_ok=True)
            write_durably(staging / HISTORY, b"".join(line + b"\n" for line in good), mode=0o644)
            write_durably(aside := self._aside(), self._path.read_bytes(), mode=0o644)
            (staging / HISTORY).replace(self._path)
        sync_directory(self._directory)
        logger.warning("%s: damaged; kept as %s, the readable lines stay", self._path, aside.name)

    def _lines(self) -> list[bytes]:
        try:
            return read_file(self._path, HISTORY_MAX_BYTES).split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise PublishError(f"{self._path}: cannot be read: {error.strerror}; check its permissions") from error

    def _aside(self) -> Path:
        known = [path.suffix.removeprefix(".bad-") for path in self._directory.glob(f"{HISTORY}.bad-*")]
        number = 1 + max([0, *(int(name) for name in known if name.isdecimal())])
        return self._path.with_name(f"{HISTORY}.bad-{number}")

    def _cut_torn_line(self) -> None:
        content = self._path.read_bytes() if self._path.exists() else b""
        whole_bytes = content.rfind(b"\n") + 1
        if whole_bytes != len(content):
            os.truncate(self._path, whole_bytes)


def _parse(line: bytes) -> HistoryEntry | None:
    try:
        return json_format.Parse(line, HistoryEntry(), ignore_unknown_fields=True)
    except GARBLED:
        return None


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
