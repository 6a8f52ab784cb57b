"""Puts a split of a data set on a device: the images that train, those that validate, or those that test."""

from dataclasses import dataclass
from typing import Literal

import torch

from pipeline.data.dataset import IMAGES, LABELS, Dataset, Half, is_validation, read_file

SplitName = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Split:
    """The images and labels of one split of a data set, resident on a device."""

    images: torch.Tensor  # uint8 (image, row, column), or (image, row, column, 3)
    labels: torch.Tensor  # int64 (image,)


def load_split(dataset: Dataset, split: SplitName, device: torch.device) -> Split:
    """Put one split of a checked data set on the device."""
    half: Half = "test" if split == "test" else "train"
    images, labels = read_file(dataset, IMAGES[half]), read_file(dataset, LABELS[half])
    if half == "train" and dataset.validation_fraction:
        chosen = is_validation(images, dataset.validation_fraction) == (split == "validation")
        images, labels = images[chosen], labels[chosen]
    return Split(torch.tensor(images).to(device), torch.tensor(labels, dtype=torch.int64).to(device))
