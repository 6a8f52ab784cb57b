"""Looks at every file of a data set before anything is trained on it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset import IMAGES, LABELS, Dataset, Half, is_validation, locate, read_file
from pipeline.errors import DataError

GREY_LEVELS = 256


@dataclass(frozen=True)
class DataSummary:
    """What the check found; mean and std are those of the training pixels as numbers in [0, 1]."""

    train_count: int
    validation_count: int
    test_count: int
    height: int
    width: int
    label_counts: tuple[int, ...]  # of the labels that train
    mean: float
    std: float


def check(dataset: Dataset, *, classes: int, size: int) -> DataSummary:
    """Demand size x size images and labels 0 to classes - 1 in both halves; DataError names the file and its fault."""
    train_images, train_labels = _check_half(dataset, "train", classes, size)
    test_images, _ = _check_half(dataset, "test", classes, size)
    mean, std = _pixel_statistics(train_images)
    if std == 0:
        raise DataError(f"{_path(dataset, IMAGES['train'])}: every pixel has about the same grey; expected pictures")
    label_counts, validation_counts = _divide(dataset, train_images, train_labels, classes)
    return DataSummary(
        train_count=sum(label_counts),
        validation_count=sum(validation_counts),
        test_count=len(test_images),
        height=size,
        width=size,
        label_counts=label_counts,
        mean=mean,
        std=std,
    )


def _check_half(dataset: Dataset, half: Half, classes: int, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    images = _check_images(dataset, IMAGES[half], size)
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


def _check_images(dataset: Dataset, name: str, size: int) -> NDArray[np.uint8]:
    images = read_file(dataset, name)
    if images.ndim != 3:
        raise DataError(f"{_path(dataset, name)}: holds labels (1 dimension); expected images (3 dimensions)")
    if images.shape[1:] != (size, size):
        height, width = images.shape[1:]
        raise DataError(
            f"{_path(dataset, name)}: holds images of {height} x {width} pixels; expected {size} x {size}: "
            "choose a preset whose network takes this size"
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
            "choose a preset with as many classes as the data set has"
        )
    missing = np.flatnonzero(np.bincount(labels, minlength=classes) == 0)
    if missing.size:
        raise DataError(
            f"{_path(dataset, name)}: has no image of class {missing[0]}; expected all of 0 to {classes - 1}"
        )


def _pixel_statistics(images: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean and standard deviation, rounded to 4 digits, from a count of the grey levels: exact, and no float copy."""
    counts = sum(np.bincount(image.ravel(), minlength=GREY_LEVELS) for image in images)
    levels = np.arange(GREY_LEVELS) / (GREY_LEVELS - 1)  # [0, 1]
    mean = np.average(levels, weights=counts)
    variance = np.average((levels - mean) ** 2, weights=counts)
    return round(float(mean), 4), round(float(np.sqrt(variance)), 4)


def _path(dataset: Dataset, name: str) -> str:
    return str(locate(dataset.folder, name))
