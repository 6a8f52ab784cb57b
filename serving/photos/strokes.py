"""Which ink is the digit: connected pieces, without specks and without what reaches in from an edge."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from serving.photos.ink import Plane

Mask = NDArray[np.bool_]
Indices = NDArray[np.intp]

SPECK = 0.06
"""A piece with less than this share of the largest one's ink is dirt."""
TALL = 0.12
"""A piece may be a digit from this share of the shorter side on."""
EDGE = 0.7
"""A row or column at an edge with this share of ink is not of the digit: the sheet ends there."""


class Pieces(NamedTuple):
    """Connected pieces of a mask (also by corners), as runs: what is ink from `starts` to `ends` in one row."""

    starts: Indices
    """(run,): into the mask's rows one after the other, with a gap of one pixel before and behind each"""
    ends: Indices
    """(run,): one behind the last pixel"""
    piece: Indices
    """(run,): the piece that it is part of, [0, number of pieces)"""


def digit(ink: Plane, *, low: float, high: float) -> Mask:
    """Where the digit is, bool (row, column): pieces above `low` that are above `high` somewhere; maybe none."""
    mask = _without_edges(ink > low)
    pieces = find(mask)
    if not pieces.starts.size:
        return mask
    total = _sums(pieces, np.where(mask, ink, 0))
    strong = _sums(pieces, ink > high) > 0
    touches, extent = _boxes(pieces, mask.shape)
    inner = strong & ~touches
    chosen = inner if (extent[inner] >= TALL * min(mask.shape)).any() else strong
    kept = chosen & (total >= SPECK * total[chosen].max(initial=0))
    return _drawn(pieces, kept, mask.shape)


def find(mask: Mask) -> Pieces:
    """The pieces of a mask, bool (row, column)."""
    line = mask.shape[1] + 2
    steps = np.diff(np.pad(mask, ((0, 0), (1, 1))).ravel().astype(np.int8), prepend=0)
    starts, ends = np.flatnonzero(steps > 0), np.flatnonzero(steps < 0)
    # The runs of the next row that touch a run follow one another, as runs are in reading order.
    first, last = np.searchsorted(ends, starts + line, "left"), np.searchsorted(starts, ends + line, "right")
    counts = np.maximum(last - first, 0)
    upper = np.repeat(np.arange(len(starts)), counts)
    lower = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts - first, counts)
    return Pieces(starts, ends, _joined(len(starts), upper, lower))


def _joined(count: int, one: Indices, other: Indices) -> Indices:
    """Number what is joined by pairs: each takes the least number around, and of that one again, until none changes."""
    least = np.arange(count)
    while True:
        pair = np.minimum(least[one], least[other])
        lesser = least.copy()
        np.minimum.at(lesser, least[one], pair)
        np.minimum.at(lesser, least[other], pair)
        lesser = lesser[lesser]
        if np.array_equal(lesser, least):
            return np.unique(least, return_inverse=True)[1]
        least = lesser


def _without_edges(mask: Mask) -> Mask:
    """Clear rows and columns that are ink nearly throughout, from each edge inwards."""
    mask = mask.copy()
    for lines in (mask, mask[::-1], mask.T, mask.T[::-1]):
        open_lines = np.flatnonzero(lines.mean(axis=1) < EDGE)
        lines[: open_lines[0] if open_lines.size else len(lines)] = False
    return mask


def _sums(pieces: Pieces, plane: NDArray[Any]) -> NDArray[Any]:
    """(piece,): of the plane's values in it."""
    before = np.pad(plane, ((0, 0), (1, 1))).ravel().cumsum(dtype=np.float64)  # a run begins behind a gap
    return np.bincount(pieces.piece, before[pieces.ends] - before[pieces.starts - 1])


def _boxes(pieces: Pieces, shape: tuple[int, ...]) -> tuple[Mask, Indices]:
    """(piece,): whether it reaches an edge of the mask, and the longer side of its box."""
    height, width = shape
    count = int(pieces.piece.max()) + 1
    row, left = np.divmod(pieces.starts, width + 2)
    right = pieces.ends % (width + 2) - 1
    top, bottom, least, greatest = (
        np.full(count, height),
        np.zeros(count, int),
        np.full(count, width),
        np.zeros(count, int),
    )
    np.minimum.at(top, pieces.piece, row)
    np.maximum.at(bottom, pieces.piece, row + 1)
    np.minimum.at(least, pieces.piece, left - 1)
    np.maximum.at(greatest, pieces.piece, right)
    touches = (top == 0) | (bottom == height) | (least == 0) | (greatest == width)
    return touches, np.maximum(bottom - top, greatest - least)


def _drawn(pieces: Pieces, kept: Mask, shape: tuple[int, ...]) -> Mask:
    """The mask of the pieces that are kept."""
    height, width = shape
    steps = np.zeros(height * (width + 2), np.int8)
    runs = kept[pieces.piece]
    steps[pieces.starts[runs]], steps[pieces.ends[runs]] = 1, -1
    drawn: Mask = steps.cumsum(dtype=np.int8).reshape(height, width + 2)[:, 1:-1] > 0
    return drawn
