"""Average and max pooling, each as the lab writes it (the oracle) and as torch computes it (what is shipped).

Equations (7) and (8) print x(u, v) and w(m, n) with their indices exchanged; read x(m, n) and w(u, v).
"""

from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from models.checks import check_integer, check_shape


def lab_average_pool(images: Tensor, window: int) -> Tensor:
    """Average each Δ×Δ window, equation (7), by roll and index.

    Maps floating (batch, feature, row, column) to (batch, feature, row/Δ, column/Δ), within the input's range.

    Raises:
        ValueError: images has another rank, or window (Δ) is no integer >= 1 or does not divide rows and columns,
            where the lab takes the floor.
    """
    return _pixels_of_windows(images, window).mean(dim=0)


def lab_max_pool(images: Tensor, window: int) -> Tensor:
    """Take the largest pixel of each Δ×Δ window, equation (8), by roll and index.

    Maps floating (batch, feature, row, column) to (batch, feature, row/Δ, column/Δ), within the input's range. Pixels
    that tie for the largest share its gradient equally, whereas `max_pool` gives all of it to the first.

    Raises:
        ValueError: images has another rank, or window (Δ) is no integer >= 1 or does not divide rows and columns.
    """
    return _pixels_of_windows(images, window).amax(dim=0)


def average_pool(images: Tensor, window: int) -> Tensor:
    """Average each Δ×Δ window, equation (7), as torch does; equal to `lab_average_pool`, forward and backward.

    Maps floating (batch, feature, row, column) to (batch, feature, row/Δ, column/Δ), within the input's range.

    Raises:
        ValueError: images has another rank, or window (Δ) is no integer >= 1 or does not divide rows and columns.
    """
    _check_windows(images, window)
    return functional.avg_pool2d(images, window)


def max_pool(images: Tensor, window: int) -> Tensor:
    """Take the largest pixel of each Δ×Δ window, equation (8), as torch does.

    Maps floating (batch, feature, row, column) to (batch, feature, row/Δ, column/Δ), within the input's range. Equal
    to `lab_max_pool` forward, and backward unless pixels tie: after a ReLU, ties at 0 pass no gradient either way.

    Raises:
        ValueError: images has another rank, or window (Δ) is no integer >= 1 or does not divide rows and columns.
    """
    _check_windows(images, window)
    return functional.max_pool2d(images, window)


def _pixels_of_windows(images: Tensor, window: int) -> Tensor:
    """Return (Δ², batch, feature, row/Δ, column/Δ): entry mΔ + n holds pixel (m, n) of every window."""
    _check_windows(images, window)
    rows, columns = (torch.arange(0, size, window, device=images.device) for size in images.shape[2:])
    shifts = product(range(window), repeat=2)
    return torch.stack([images.roll((-m, -n), dims=(2, 3))[:, :, rows[:, None], columns] for m, n in shifts])


def _check_windows(images: Tensor, window: int) -> None:
    check_shape(images, "batch", "feature", "row", "column")
    check_integer("window", window, minimum=1)
    rows, columns = images.shape[2:]
    if rows % window or columns % window:
        raise ValueError(f"window {window} does not divide images of {rows}×{columns} pixels exactly")
