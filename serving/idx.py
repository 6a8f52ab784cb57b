"""Reads images from IDX files, the format of MNIST (described by LeCun, Cortes and Burges beside the data)."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from serving.pixels import Images

_UINT8_4D = 0x00000804
_UINT8_3D = 0x00000803
_UINT8_1D = 0x00000801
_COLOURS = 3


def read_images(path: Path) -> Images:
    """The images of an IDX file, gzipped or not; raises ValueError naming the file.

    uint8 (image, row, column), or (image, row, column, 3) of red, green, blue.
    """
    images = _read(path, (_UINT8_3D, _UINT8_4D), "images")
    if images.ndim == 4 and images.shape[3] != _COLOURS:
        raise ValueError(f"{path}: holds pixels of {images.shape[3]} bytes, expected 3: red, green, blue")
    return images


def read_labels(path: Path) -> Images:
    """The labels of an IDX file, gzipped or not: uint8 (image,); raises ValueError naming the file."""
    return _read(path, (_UINT8_1D,), "labels")


def _read(path: Path, magics: tuple[int, ...], kind: str) -> Images:
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: is a broken gzip file: {error}") from error
    magic = int.from_bytes(content[:4])
    dimension_count = magic & 0xFF
    header_bytes = 4 + 4 * dimension_count
    if magic not in magics or len(content) < header_bytes:
        begins = " or ".join(f"{magic:08x}" for magic in magics)
        raise ValueError(
            f"{path}: expected an IDX file of {kind}, which begins with {begins}, came {content[:4].hex()}"
        )
    shape = struct.unpack_from(f">{dimension_count}I", content, 4)
    expected = header_bytes + math.prod(shape)
    if len(content) != expected:
        raise ValueError(f"{path}: is {len(content)} bytes long, its header says {expected}")
    return np.frombuffer(content, np.uint8, offset=header_bytes).reshape(shape)
