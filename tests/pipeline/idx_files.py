"""Writes IDX files, the counterpart of `pipeline.data.idx`."""

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[np.uint8]]


def encode_idx(array: NDArray[np.uint8]) -> bytes:
    """Encode unsigned bytes as an IDX file."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_folder(folder: Path, arrays: Arrays) -> Path:
    """Write one file for each name, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        (folder / name).write_bytes(encode_idx(array))
    return folder
