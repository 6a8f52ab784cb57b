"""The IDX format of MNIST (LeCun, http://yann.lecun.com/exdb/mnist/): read whole, from a gzip or a plain file; written.

Two zero bytes, a type code (8: unsigned byte), the number of dimensions, each dimension as a big-endian 32-bit number,
then the elements in row-major order. Colour images, four dimensions of which the last is 3, are what we add to MNIST's.
"""

import gzip
import hashlib
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"
UNSIGNED_BYTE = 0x08
DIMENSION_COUNTS = (1, 3, 4)  # labels, grey images, colour images
COLOURS = 3  # red, green, blue
MAX_ELEMENT_BYTES = 2**30  # twenty times MNIST; without a limit a header could ask for 2^96 bytes


@dataclass(frozen=True)
class IdxFile:
    """What one IDX file holds: its elements, and the digest of its uncompressed bytes."""

    array: NDArray[np.uint8]
    sha256: str


def read_idx(path: Path, max_bytes: int = MAX_ELEMENT_BYTES) -> IdxFile:
    """Read an IDX file of unsigned bytes, at most `max_bytes`: images (count, height, width[, 3]) or labels (count,).

    Raise DataError, naming the file, for anything that is not exactly such a file.
    """
    try:
        with _open(path) as stream:
            return _read(stream, path, max_bytes)
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise DataError(f"{path}: cannot be read: {reason}; expected a whole IDX file, plain or gzip") from error


def _open(path: Path) -> gzip.GzipFile | BinaryIO:
    """Open by content, not by suffix: an IDX file starts with zero bytes, so the two cannot be confused."""
    with path.open("rb") as file:
        is_gzip = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
    return gzip.open(path) if is_gzip else path.open("rb")


def _read(stream: gzip.GzipFile | BinaryIO, path: Path, max_bytes: int) -> IdxFile:
    header, shape = _read_header(stream, path)
    expected = math.prod(shape)
    if expected > max_bytes:
        raise DataError(f"{path}: header declares {expected} bytes {shape}; expected at most {max_bytes}")
    elements = stream.read(expected + 1)  # one more than declared is enough to see that a gzip inflates too far
    if len(elements) != expected:
        found = f"more than {expected}" if len(elements) > expected else f"only {len(elements)}"
        raise DataError(f"{path}: holds {found} bytes after its header; expected {expected} for shape {shape}")
    digest = hashlib.sha256(header)
    digest.update(elements)
    return IdxFile(np.frombuffer(elements, np.uint8).reshape(shape), digest.hexdigest())


def _read_header(stream: gzip.GzipFile | BinaryIO, path: Path) -> tuple[bytes, tuple[int, ...]]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise DataError(f"{path}: starts with {magic.hex() or 'nothing'}; expected an IDX magic number (0000...)")
    type_code, dimension_count = magic[2], magic[3]
    if type_code != UNSIGNED_BYTE:
        raise DataError(f"{path}: holds elements of type code {type_code:#04x}; expected 0x08 (unsigned byte)")
    if dimension_count not in DIMENSION_COUNTS:
        raise DataError(
            f"{path}: has {dimension_count} dimensions; expected 3 (grey images), 4 (colour images) or 1 (labels)"
        )
    sizes = stream.read(4 * dimension_count)
    if len(sizes) < 4 * dimension_count:
        raise DataError(f"{path}: ends inside its header; expected {dimension_count} sizes of 4 bytes")
    shape = struct.unpack(f">{dimension_count}I", sizes)
    if len(shape) == 4 and shape[3] != COLOURS:
        raise DataError(f"{path}: has {shape[3]} bytes a pixel; expected {COLOURS}: red, green, blue")
    return magic + sizes, shape


def write_idx(path: Path, array: NDArray[np.uint8]) -> str:
    """Write images or labels as a plain IDX file, and return the sha256 of its bytes."""
    header = struct.pack(f">HBB{array.ndim}I", 0, UNSIGNED_BYTE, array.ndim, *array.shape)
    content = header + array.tobytes()
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()
