"""A data set is four IDX files in a folder, and the digests that say which bytes they hold."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.idx import read_idx

SplitName = Literal["train", "test"]

IMAGES: Mapping[SplitName, str] = {"train": "train-images-idx3-ubyte", "test": "t10k-images-idx3-ubyte"}
LABELS: Mapping[SplitName, str] = {"train": "train-labels-idx1-ubyte", "test": "t10k-labels-idx1-ubyte"}
FILE_NAMES = (*IMAGES.values(), *LABELS.values())


@dataclass(frozen=True)
class Dataset:
    """Where the four files lie, where they came from, and the sha256 of the uncompressed bytes of each."""

    name: str
    source: str
    folder: Path
    sha256: Mapping[str, str]


@dataclass(frozen=True)
class Split:
    """The images and labels of one half of a data set, resident on a device."""

    images: torch.Tensor  # uint8 (image, row, column)
    labels: torch.Tensor  # int64 (image,)


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


def load_split(dataset: Dataset, split: SplitName, device: torch.device) -> Split:
    """Put one half of a checked data set on the device."""
    images = torch.tensor(read_file(dataset, IMAGES[split]))
    labels = torch.tensor(read_file(dataset, LABELS[split]), dtype=torch.int64)
    return Split(images.to(device), labels.to(device))
