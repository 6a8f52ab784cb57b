"""The layout of a model repository (schema artifact/v1): the names in it, their limits, and how a file of it is read.

Both programs read through here, so that neither a FIFO nor a device blocks them, and no file exhausts their memory.
"""

import hashlib
import os
import re
import stat
from pathlib import Path

SCHEMA = "artifact/v1"
CURRENT = "CURRENT"
HISTORY = "HISTORY.jsonl"
MANIFEST = "manifest.json"
MODEL = "model.onnx"
FEATURES = "features.onnx"  # only of networks that show feature maps
KNOWN_ANSWERS = "known_answers.npz"

CURRENT_MAX_BYTES = 64 << 10
MANIFEST_MAX_BYTES = 1 << 20
HISTORY_MAX_BYTES = 64 << 20  # 200,000 lines
FILE_MAX_BYTES = 2 << 30  # what protobuf, and so one ONNX file, can hold

MAX_VERSION = 999_999_999  # what an int32 of the contract can hold
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


class UnusableFileError(ValueError):
    """The path is not a regular file, or is larger than allowed; the message names it and says why."""


def version_number(name: str) -> int | None:
    """The number of a version directory of this name: `[1-9][0-9]*` in ASCII digits, nine at most, else None."""
    return int(name) if _VERSION.fullmatch(name) else None


def read_file(path: Path, max_bytes: int = FILE_MAX_BYTES) -> bytes:
    """The content of a regular file of at most `max_bytes`; opening it never blocks.

    Raises OSError where it cannot be read, UnusableFileError where it is not a regular file or too large.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UnusableFileError(f"{path}: is {_kind(status.st_mode)}, expected a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            content = file.read(min(status.st_size, max_bytes) + 1)  # one more: whether it has grown since
    finally:
        os.close(descriptor)
    if len(content) > max_bytes:
        raise UnusableFileError(f"{path}: is larger than {max_bytes} bytes, expected at most that")
    return content


def sha256_of(path: Path, max_bytes: int = FILE_MAX_BYTES) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits; raises what `read_file` raises."""
    return hashlib.sha256(read_file(path, max_bytes)).hexdigest()


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
    return kinds.get(stat.S_IFMT(mode), "not a file")
