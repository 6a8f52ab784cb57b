"""Digits as a hand draws them: the strokes of each, and where on the paper they go."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

Point = tuple[float, float]
"""Right and down, each in [0, 1] of a box around the digit; later of the paper."""
Stroke = list[Point]


def arc(middle: Point, radii: Point, start: float, end: float, count: int = 24) -> Stroke:
    """Part of an ellipse, from one angle to another in degrees; 0 is right, 90 is down."""
    angles = [math.radians(start + (end - start) * i / count) for i in range(count + 1)]
    return [(middle[0] + radii[0] * math.cos(a), middle[1] + radii[1] * math.sin(a)) for a in angles]


DIGITS: dict[str, list[Stroke]] = {
    "0": [arc((0.5, 0.5), (0.33, 0.48), -80, 285, 40)],
    "1": [[(0.35, 0.2), (0.52, 0.02), (0.5, 0.98)]],
    "2": [[*arc((0.48, 0.28), (0.32, 0.26), 190, 395), (0.12, 0.96), (0.9, 0.94)]],
    "3": [[*arc((0.45, 0.26), (0.3, 0.24), 200, 440), *arc((0.45, 0.73), (0.36, 0.25), -80, 160)]],
    "4": [[(0.32, 0.05), (0.15, 0.58), (0.85, 0.56)], [(0.66, 0.1), (0.62, 0.98)]],
    "5": [[(0.3, 0.06), (0.24, 0.46), *arc((0.45, 0.68), (0.34, 0.28), 230, 510)], [(0.3, 0.06), (0.82, 0.04)]],
    "6": [[(0.68, 0.03), (0.38, 0.3), *arc((0.48, 0.7), (0.28, 0.26), 190, 560, 36)]],
    "7": [[(0.12, 0.07), (0.85, 0.05), (0.6, 0.45), (0.42, 0.97)]],
    "8": [[
        *arc((0.5, 0.26), (0.25, 0.23), -20, -270),
        *arc((0.5, 0.73), (0.31, 0.25), -90, 270, 30),
        *arc((0.5, 0.26), (0.25, 0.23), 90, -20, 12),
    ]],
    "9": [[*arc((0.48, 0.28), (0.28, 0.25), -10, -370, 30), (0.72, 0.6), (0.62, 0.98)]],
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where a digit is drawn: the middle of its box and the box's size, in shares of the paper, and its slant."""

    middle: Point = (0.5, 0.5)
    size: Point = (0.5, 0.7)
    slant: float = 0.0

    def put(self, strokes: Sequence[Stroke]) -> list[Stroke]:
        """The strokes on the paper."""
        return [[self._put(point) for point in stroke] for stroke in strokes]

    def _put(self, point: Point) -> Point:
        right, down = point[0] - 0.5, point[1] - 0.5
        return self.middle[0] + self.size[0] * (right - self.slant * down), self.middle[1] + self.size[1] * down


PLACES = {
    "in the middle": Place(),
    "large and slanted": Place(size=(0.62, 0.85), slant=0.15),
    "small, thick for its size, in a corner": Place(middle=(0.3, 0.32), size=(0.3, 0.42)),
}
