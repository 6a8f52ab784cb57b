"""A data set is four IDX files in a folder, the names of its classes, and the digests that say which bytes they hold.

Three splits come of them: the training images are divided into those that train and those that validate, which decide
everything; the test images are read once for each version that is published.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.data.idx import read_idx
from pipeline.errors import DataError

Half = Literal["train", "test"]

IMAGES: Mapping[Half, str] = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
LABELS: Mapping[Half, str] = {"train": "train-labels-idx1-ubyte", "test": "t10k-labels-idx1-ubyte"}
FILE_NAMES = (*IMAGES.values(), *LABELS.values())  # also where images are coloured, and have four dimensions


@dataclass(frozen=True)
class Dataset:
    """Where the four files lie, where they came from, and the sha256 of the uncompressed bytes of each.

    `labels` has the name of each class in their order; the file that names them has its sha256 too, where there is one.
    """

    name: str
    source: str
    folder: Path
    sha256: Mapping[str, str]
    labels: tuple[str, ...]
    validation_fraction: float = 0.0
    """The share of the training images that validate, [0, 1)."""


def locate(folder: Path, name: str) -> Path:
    """Find a file of the data set, plain or gzip."""
    candidates = (folder / name, folder / f"{name}.gz")
    for path in candidates:
        if path.is_file():
            return path
    raise DataError(f"{folder}: has no {name}; expected it there, plain or with .gz")


def read_file(dataset: Dataset, name: str) -> NDArray[np.uint8]:
    """Read one file of the data set.

    The digest is compared on every read: it costs a tenth of inflating the file, and it proves that each step sees the
    bytes that the manifest will name, even if somebody changed the folder between two steps.
    """
    path = locate(dataset.folder, name)
    idx_file = read_idx(path)
    if idx_file.sha256 != dataset.sha256[name]:
        raise DataError(
            f"{path}: its sha256 is {idx_file.sha256}; expected {dataset.sha256[name]} as fetched; fetch again"
        )
    return idx_file.array


def is_validation(images: NDArray[np.uint8], fraction: float) -> NDArray[np.bool_]:
    """Which images validate, bool (image,): those whose hash lies in the first `fraction` of all hashes.

    So an image that validates once does so in every run and for every seed, also when the data set has grown or is in
    another order, and two copies of it never lie on both sides: no champion was trained on what it is compared on.
    """
    bound = int(fraction * 2**64)
    return np.array([_hash(image) < bound for image in images], dtype=np.bool_)


def is_test(images: NDArray[np.uint8], fraction: float) -> NDArray[np.bool_]:
    """Which images test, bool (image,), where nobody chose them: those whose hash lies in the last `fraction`.

    So the test images too stay what they are while a data set grows, and copies of one lie on one side.
    """
    bound = 2**64 - int(fraction * 2**64)
    return np.array([_hash(image) >= bound for image in images], dtype=np.bool_)


def _hash(image: NDArray[np.uint8]) -> int:
    return int.from_bytes(hashlib.blake2b(image.tobytes(), digest_size=8).digest())
