"""Looks at every file of a data set before anything is trained on it."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.data.dataset import IMAGES, LABELS, Dataset, Half, is_validation, locate, read_file
from pipeline.data.labels import LABEL_NAMES
from pipeline.errors import DataError

LEVELS = 256  # of a byte


@dataclass(frozen=True)
class DataSummary:
    """What the check found; means and stds are those of the training pixels as numbers in [0, 1]."""

    train_count: int
    validation_count: int
    test_count: int
    height: int
    width: int
    channels: int  # 1 for grey; 3 for red, green, blue
    label_counts: tuple[int, ...]  # of the labels that train
    means: tuple[float, ...]  # of each channel
    stds: tuple[float, ...]
    mean: float  # over all channels
    std: float

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Of one image: (height, width), or (height, width, 3)."""
        return (self.height, self.width) if self.channels == 1 else (self.height, self.width, self.channels)


def check(dataset: Dataset, *, classes: int, size: int, channels: int = 1) -> DataSummary:
    """Demand images and labels that a network of `classes`, `size` and `channels` takes, in both halves.

    That is uint8 (image, size, size), with a last dimension of 3 for 3 channels, and labels 0 to classes - 1. DataError
    names the file, its fault and what to change.
    """
    _check_names(dataset, classes)
    train_images, train_labels = _check_half(dataset, "train", classes, size, channels)
    test_images, _ = _check_half(dataset, "test", classes, size, channels)
    moments, (mean, std) = _pixel_statistics(train_images, channels)
    means, stds = zip(*moments, strict=True)
    if min(stds) == 0:
        colour = ("red", "green", "blue")[stds.index(0)] if channels > 1 else "grey"
        raise DataError(
            f"{_path(dataset, IMAGES['train'])}: every pixel has about the same {colour}; expected pictures"
        )
    label_counts, validation_counts = _divide(dataset, train_images, train_labels, classes)
    return DataSummary(
        train_count=sum(label_counts),
        validation_count=sum(validation_counts),
        test_count=len(test_images),
        height=size,
        width=size,
        channels=channels,
        label_counts=label_counts,
        means=means,
        stds=stds,
        mean=mean,
        std=std,
    )


def _check_names(dataset: Dataset, classes: int) -> None:
    if LABEL_NAMES in dataset.sha256 and len(dataset.labels) != classes:
        raise DataError(
            f"data set {dataset.name}: has {len(dataset.labels)} classes, {dataset.labels[0]} to {dataset.labels[-1]}; "
            f"the preset's network has {classes}: set network.classes = {len(dataset.labels)}"
        )


def _check_half(
    dataset: Dataset, half: Half, classes: int, size: int, channels: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    images = _check_images(dataset, IMAGES[half], size, channels)
    labels = _check_labels(dataset, LABELS[half])
    if len(images) != len(labels):
        path = _path(dataset, LABELS[half])
        raise DataError(f"{path}: holds {len(labels)} labels; expected {len(images)}, one for each image")
    _check_range(dataset, LABELS[half], labels, classes)
    return images, labels


def _divide(
    dataset: Dataset, images: NDArray[np.uint8], labels: NDArray[np.uint8], classes: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The label counts of the images that train and of those that validate; each class must be in both."""
    validates = is_validation(images, dataset.validation_fraction)
    counts = [np.bincount(labels[chosen], minlength=classes) for chosen in (~validates, validates)]
    for count, role in zip(counts, ("train on", "validate with"), strict=True):
        if dataset.validation_fraction and (count == 0).any():
            raise DataError(
                f"{_path(dataset, LABELS['train'])}: leaves no image of class {count.argmin()} to {role}; expected "
                f"more images of it, or another data.validation_fraction (it is {dataset.validation_fraction:g})"
            )
    trains, decides = (tuple(count.tolist()) for count in counts)
    return trains, decides


def _check_images(dataset: Dataset, name: str, size: int, channels: int) -> NDArray[np.uint8]:
    images = read_file(dataset, name)
    if images.ndim == 1:
        raise DataError(f"{_path(dataset, name)}: holds labels (1 dimension); expected images (3 or 4 dimensions)")
    if images.shape[1:3] != (size, size):
        height, width = images.shape[1:3]
        advice = f"begin network.sizes with {height}" if height == width else "make squares of them"
        raise DataError(
            f"{_path(dataset, name)}: holds images of {height} x {width} pixels; expected {size} x {size} for the "
            f"preset's network: {advice}"
        )
    if math.prod(images.shape[3:]) != channels:
        came, expected = ("colour", "grey") if channels == 1 else ("grey", "colour")
        raise DataError(
            f"{_path(dataset, name)}: holds {came} images; expected {expected} ones for the preset's network: begin "
            f"network.features with {math.prod(images.shape[3:])}"
        )
    if not len(images):
        raise DataError(f"{_path(dataset, name)}: holds no image; expected at least one of each class")
    return images


def _check_labels(dataset: Dataset, name: str) -> NDArray[np.uint8]:
    labels = read_file(dataset, name)
    if labels.ndim != 1:
        raise DataError(f"{_path(dataset, name)}: holds images (3 dimensions); expected labels (1 dimension)")
    return labels


def _check_range(dataset: Dataset, name: str, labels: NDArray[np.uint8], classes: int) -> None:
    out_of_range = np.flatnonzero(labels >= classes)
    if out_of_range.size:
        first = out_of_range[0]
        raise DataError(
            f"{_path(dataset, name)}: label {first} is {labels[first]}; expected 0 to {classes - 1}: "
            "set network.classes in the preset to the number of classes that the data set has"
        )
    missing = np.flatnonzero(np.bincount(labels, minlength=classes) == 0)
    if missing.size:
        raise DataError(
            f"{_path(dataset, name)}: has no image of class {missing[0]}; expected all of 0 to {classes - 1}: "
            "set network.classes in the preset to the number of classes that the data set has"
        )


def _pixel_statistics(
    images: NDArray[np.uint8], channels: int
) -> tuple[list[tuple[float, float]], tuple[float, float]]:
    """Mean and standard deviation of each channel, and of all: from counts of the levels, exact, and no float copy."""
    planes = images.reshape(len(images), -1, channels)  # (image, pixel, channel)
    counts = np.array(
        [sum(np.bincount(plane, minlength=LEVELS) for plane in planes[..., channel]) for channel in range(channels)]
    )
    return [_moments(of_channel) for of_channel in counts], _moments(counts.sum(axis=0))


def _moments(counts: NDArray[np.int64]) -> tuple[float, float]:
    """Mean and standard deviation, rounded to 4 digits, of levels that occur so often."""
    levels = np.arange(LEVELS) / (LEVELS - 1)  # [0, 1]
    mean = np.average(levels, weights=counts)
    variance = np.average((levels - mean) ** 2, weights=counts)
    return round(float(mean), 4), round(float(np.sqrt(variance)), 4)


def _path(dataset: Dataset, name: str) -> str:
    return str(locate(dataset.folder, name))
