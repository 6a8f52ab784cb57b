"""Digits, and what the fixed filters of Task 2 and the pooling of Task 3 make of them."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.cnn import CNN
from models.filters import SecondFilter, fixed_filters, load_weights
from models.pooling import average_pool, max_pool
from pipeline.check import DataSummary
from pipeline.data.split import Split

Pixels = NDArray[np.float32]

DIGIT = 4
"""The notebook's choice for Task 2."""
DIGIT_COUNT = 3
SAMPLE_COUNT = 6
WINDOWS = (2, 4)


@dataclass(frozen=True, eq=False)
class Samples:
    """The first images of each class, pixels in [0, 1], and how much ink the images of a class carry."""

    images: tuple[Pixels, ...]
    """For each class (image, row, column)."""
    ink: tuple[float, ...]
    """The mean pixel of all training images of each class, [0, 1]."""


@dataclass(frozen=True, eq=False)
class Filtered:
    """Task 2: images of one digit, normalised as the notebook does, and the three filters' answers to them."""

    digit: int
    indices: tuple[int, ...]
    """Which training images they are, counted from 0."""
    images: Pixels
    """(image, row, column)."""
    ground: float
    """What an empty pixel is after normalisation; beyond the border it is 0."""
    responses: Pixels
    """(image, filter, row, column): H ⋆ X, before σ, with the text's H^{f2}."""
    features: Pixels
    """The same after σ: the output of the CNN."""
    code_feature: Pixels
    """(image, row, column): after σ, with the H^{f2} of the notebook's code."""


@dataclass(frozen=True, eq=False)
class Pooled:
    """Task 3: images of one digit, pooled with one window Δ in both ways; pixels in [0, 1]."""

    window: int
    images: Pixels
    """(image, row, column)."""
    average: Pixels
    """(image, row/Δ, column/Δ), as the next."""
    largest: Pixels


def sample(split: Split, classes: int) -> Samples:
    """Take the first images of each class."""
    of_class = [split.images[split.labels == label] for label in range(classes)]
    first = tuple(_pixels(images[:SAMPLE_COUNT]) for images in of_class)
    return Samples(first, tuple(images.double().mean().item() / 255 for images in of_class))


def apply_filters(split: Split, summary: DataSummary, digit: int = DIGIT) -> Filtered:
    """Put the first images of a digit through a CNN of one layer with the filters of equation (6)."""
    indices = torch.nonzero(split.labels == digit).flatten()[:DIGIT_COUNT]
    images = (_scaled(split.images[indices]) - summary.mean) / summary.std
    text, code = _one_layer("text"), _one_layer("code")
    with torch.no_grad():
        responses = text.convolutions[0](images.unsqueeze(1))  # (image, filter, row, column)
        features, code_features = text(images.unsqueeze(1)), code(images.unsqueeze(1))
    return Filtered(
        digit=digit,
        indices=tuple(indices.tolist()),
        images=images.numpy(),
        ground=-summary.mean / summary.std,
        responses=responses.numpy(),
        features=features.numpy(),
        code_feature=code_features[:, 1].numpy(),
    )


def pool_digits(split: Split, digit: int = DIGIT) -> tuple[Pooled, ...]:
    """Pool the first images of a digit, equations (7) and (8), with each window."""
    images = _scaled(split.images[split.labels == digit][:DIGIT_COUNT])
    return tuple(_pool(images, window) for window in WINDOWS)


def _pool(images: Tensor, window: int) -> Pooled:
    feature = images.unsqueeze(1)  # (image, 1, row, column), [0, 1]
    average, largest = average_pool(feature, window), max_pool(feature, window)
    return Pooled(window, images.numpy(), average.squeeze(1).numpy(), largest.squeeze(1).numpy())


def _one_layer(second: SecondFilter) -> CNN:
    cnn = CNN(taps=(1,), features=(1, 3))
    load_weights(cnn.convolutions[0], fixed_filters(second))
    return cnn


def _scaled(images: Tensor) -> Tensor:
    return images.cpu().float() / 255


def _pixels(images: Tensor) -> Pixels:
    pixels: Pixels = _scaled(images).numpy()
    return pixels
