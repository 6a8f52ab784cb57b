"""How much ink there is at every pixel: dark on light or light on dark, under uneven light."""

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

from serving.photos.decode import Picture

Plane = NDArray[np.float32]
"""float32 (row, column)."""

COARSE = 24
"""The longer side of the picture that light and shadows are looked for in, in pixels."""
FIT_ROUNDS = 4
WHITE = np.float32(255)
DARKEST = np.float32(16)
"""Light is never taken for less, of 255: in black, noise would become ink."""
SHADOW = 6
"""What is wider than one part in so many of the shorter side, and reaches an edge, is shadow, not stroke."""


def contrast(picture: Picture) -> Plane:
    """Ink at every pixel, float32 (row, column): 0 for ground, up to 1 for black on white or white on black."""
    light, residue = _light(picture)
    grey = picture.astype(np.float32)
    ink, unit = (light - grey, np.maximum(light, DARKEST)) if _is_dark(residue) else (grey - light, np.full(1, WHITE))
    even: Plane = ink / unit
    return even - _shadows(even)


def _light(picture: Picture) -> tuple[Plane, Plane]:
    """A lamp and a lens: the quadratic surface that most pixels lie on, and a coarse picture's distance from it.

    Pixels that lie far off count less with every round, and are ink in the end.
    """
    coarse = resized(picture.astype(np.float32), COARSE)
    terms = np.stack([np.broadcast_to(term, coarse.shape).ravel() for term in _terms(*coarse.shape)], 1)
    values, weights, factors = coarse.ravel(), np.ones(coarse.size, np.float32), np.zeros(6, np.float32)
    for _ in range(FIT_ROUNDS):
        weighted = terms * weights[:, np.newaxis]
        factors = np.linalg.solve(weighted.T @ terms + 1e-3 * np.eye(6, dtype=np.float32), weighted.T @ values)
        distances = np.abs(values - terms @ factors)
        weights = (1 / (1 + (distances / max(2.0, 1.5 * float(np.median(distances)))) ** 2)).astype(np.float32)
    light = np.zeros(picture.shape, np.float32)
    for factor, term in zip(factors, _terms(*picture.shape), strict=True):
        light += factor * term
    return light, (values - terms @ factors).reshape(coarse.shape)


def _terms(height: int, width: int) -> tuple[Plane, ...]:
    """1, y, x, y², x², xy; each broadcasts to (height, width)."""
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, np.newaxis]
    right = np.linspace(-1, 1, width, dtype=np.float32)[np.newaxis]
    return np.ones((1, 1), np.float32), down, right, down * down, right * right, down * right


def _is_dark(residue: Plane) -> bool:
    """Whether what lies far off the light is darker than it."""
    far = 3 * np.median(np.abs(residue)) + 3
    return float(np.maximum(-residue - far, 0).sum()) >= float(np.maximum(residue - far, 0).sum())


def _shadows(even: Plane) -> Plane:
    """What would be ink, but is wide and reaches an edge of the picture; strokes that do so are narrow."""
    coarse = resized(even, COARSE)
    wide = _slide(_slide(coarse, np.min), np.max)
    reached = np.full_like(wide, wide.min())
    reached[[0, -1]], reached[:, [0, -1]] = wide[[0, -1]], wide[:, [0, -1]]
    while True:
        grown = np.minimum(_neighbours(reached), wide)
        if np.array_equal(grown, reached):
            return scaled(reached, even.shape)
        reached = grown


def _slide(plane: Plane, of_window: Callable[..., Plane]) -> Plane:
    """The least or the greatest of a window around every pixel."""
    half = max(1, round(min(plane.shape) / SHADOW / 2))
    padded = np.pad(plane, half, mode="edge")
    rows = of_window(sliding_window_view(padded, 2 * half + 1, axis=0), axis=-1)
    return of_window(sliding_window_view(rows, 2 * half + 1, axis=1), axis=-1)


def _neighbours(plane: Plane) -> Plane:
    """The greatest of every pixel and the four beside it."""
    greatest = plane.copy()
    for here, there in ((np.s_[1:], np.s_[:-1]), (np.s_[:-1], np.s_[1:])):
        np.maximum(greatest[here], plane[there], out=greatest[here])
        np.maximum(greatest[:, here], plane[:, there], out=greatest[:, here])
    return greatest


def resized(plane: Plane, side: int) -> Plane:
    """Scaled so that the longer side has `side` pixels."""
    scale = side / max(plane.shape)
    height, width = (max(2, round(scale * extent)) for extent in plane.shape)
    return scaled(plane, (height, width))


def scaled(plane: Plane, shape: tuple[int, ...]) -> Plane:
    """Scaled to `shape`, (height, width), with antialiasing."""
    height, width = shape
    return np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BILINEAR))
