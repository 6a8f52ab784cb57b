"""Reads images from IDX files, the format of MNIST (described by LeCun, Cortes and Burges beside the data)."""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from serving.pixels import Images

_UINT8_4D = 0x00000804
_UINT8_3D = 0x00000803
_UINT8_1D = 0x00000801
_COLOURS = 3

MAX_BYTES = 2**30
"""Of images, twenty times MNIST: a header can declare 2^96 bytes."""

CHUNK_BYTES = 2**20


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
    with path.open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        try:
            return _parse(gzip.open(file) if is_gzip else file, path, magics, kind)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: is a broken gzip file: {error}") from error


def _parse(file: gzip.GzipFile | BinaryIO, path: Path, magics: tuple[int, ...], kind: str) -> Images:
    begin = _read_at_most(file, 4)
    magic = int.from_bytes(begin)
    sizes = _read_at_most(file, 4 * (magic & 0xFF)) if magic in magics else b""
    if magic not in magics or len(sizes) < 4 * (magic & 0xFF):
        begins = " or ".join(f"{magic:08x}" for magic in magics)
        raise ValueError(f"{path}: got {begin.hex()}, expected an IDX file of {kind}, which begins with {begins}")
    shape = struct.unpack(f">{len(sizes) // 4}I", sizes)
    expected = math.prod(shape)
    if expected > MAX_BYTES:
        raise ValueError(f"{path}: its header declares {expected} bytes, expected at most {MAX_BYTES}")
    content = _read_at_most(file, expected + 1)  # one more than declared is enough to see that there are more
    if len(content) != expected:
        got = f"more than {expected}" if len(content) > expected else str(len(content))
        raise ValueError(f"{path}: got {got} bytes after the header, expected the {expected} that it declares")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _read_at_most(file: gzip.GzipFile | BinaryIO, limit: int) -> bytes:
    """Memory for what is there, not for what a header declares."""
    content = bytearray()
    while len(content) < limit and (chunk := file.read(min(CHUNK_BYTES, limit - len(content)))):
        content += chunk
    return bytes(content)
