"""One run of a model at a time: a lock that the kernel frees whatever ends the run, and a note of whose it is.

The note stays when the run is over, so that whoever watched the process can see whether it came to an end of its own.
"""

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from pipeline.errors import BusyError, PublishError

LOCK = ".run.lock"


@dataclass(frozen=True)
class Note:
    """Who runs, or ran last."""

    pid: int
    host: str
    started: str
    """UTC, ISO 8601."""
    is_ended: bool = False
    """Whether the run came to an end by itself, a good one or a failure."""
    is_told: bool = False
    """Whether that was a failure, of which the run itself told whoever is to know."""


@contextlib.contextmanager
def only_run(directory: Path) -> Iterator[None]:
    """Hold the lock of a model's folder; raises BusyError where another run has it, PublishError where it cannot be.

    It is the kernel's (flock), held by this process alone: it outlives no run, and needs no cleaning up.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = (directory / LOCK).open("a+")
    except OSError as error:
        raise PublishError(f"{error.filename or directory}: cannot be written: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(f"another run of {directory.name} is in progress{_whose(directory)}") from error
        note = Note(os.getpid(), socket.gethostname(), datetime.now(UTC).isoformat(timespec="seconds"))
        _write(file, note)
        try:
            yield
        except Exception:  # told of by the run; not so what ends it from outside, SIGTERM for one
            _write(file, replace(note, is_ended=True, is_told=True))
            raise
        _write(file, replace(note, is_ended=True))


def read_note(directory: Path) -> Note | None:
    """Who runs in a model's folder, or ran last; None where that is not known."""
    try:
        return Note(**json.loads((directory / LOCK).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _whose(directory: Path) -> str:
    note = read_note(directory)
    return f": process {note.pid} on {note.host}, since {note.started}" if note else ""


def _write(file: IO[str], note: Note) -> None:
    file.truncate(0)
    file.write(json.dumps(asdict(note)))
    file.flush()
