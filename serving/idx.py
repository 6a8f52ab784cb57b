"""Reads images from IDX files, the format of MNIST (described by LeCun, Cortes and Burges beside the data)."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from serving.pixels import Images

_UINT8_3D = 0x00000803
_UINT8_1D = 0x00000801


def read_images(path: Path) -> Images:
    """The images of an IDX file, gzipped or not: uint8 (image, row, column); raises ValueError naming the file."""
    return _read(path, _UINT8_3D, "images")


def read_labels(path: Path) -> Images:
    """The labels of an IDX file, gzipped or not: uint8 (image,); raises ValueError naming the file."""
    return _read(path, _UINT8_1D, "labels")


def _read(path: Path, magic: int, kind: str) -> Images:
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: is a broken gzip file: {error}") from error
    dimension_count = magic & 0xFF
    header_bytes = 4 + 4 * dimension_count
    if len(content) < header_bytes or struct.unpack_from(">I", content)[0] != magic:
        raise ValueError(
            f"{path}: expected an IDX file of {kind}, which begins with {magic:08x}, came {content[:4].hex()}"
        )
    shape = struct.unpack_from(f">{dimension_count}I", content, 4)
    expected = header_bytes + int(np.prod(shape, dtype=np.uint64))
    if len(content) != expected:
        raise ValueError(f"{path}: is {len(content)} bytes long, its header says {expected}")
    return np.frombuffer(content, np.uint8, offset=header_bytes).reshape(shape)
