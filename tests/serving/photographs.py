"""Renders images of digits as photographs of them: ink on paper, seen by a camera, kept as JPEG.

A photograph is a sum of disturbances, each a function of what it disturbs and of a random generator: a test can look
at one alone. What is deterministic is the seed: the same image and the same generator give the same file.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from serving.pixels import Images

Plane = NDArray[np.floating[Any]]
"""(row, column), [0, 1] but for noise."""


@dataclass(frozen=True)
class Scene:
    """Ink on a sheet, before the camera: where there is ink, and how bright it and the sheet are."""

    ink: Plane
    """(row, column), [0, 1]: the share of a pixel that ink covers"""
    dark: float
    """The brightness of the ink, [0, 1]."""
    light: float
    """The brightness of the sheet."""


Draw = Callable[[Scene, np.random.Generator], Scene]
See = Callable[[Plane, np.random.Generator], Plane]


def sheet(image: Images, generator: np.random.Generator, *, low: int = 8, high: int = 20) -> Scene:
    """The image scaled up by `low` to `high`, black on white."""
    side = 28 * int(generator.integers(low, high + 1))
    ink = Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)
    return Scene(np.asarray(ink, np.float32) / 255, 0, 1)


def turned(scene: Scene, generator: np.random.Generator) -> Scene:
    """By up to 8 degrees either way."""
    ink = _as_picture(scene.ink).rotate(generator.uniform(-8, 8), Image.Resampling.BILINEAR)
    return replace(scene, ink=np.asarray(ink, np.float32) / 255)


def shifted(scene: Scene, generator: np.random.Generator) -> Scene:
    """Up to half a side of further sheet in all, above, below, left and right."""
    side = len(scene.ink)
    above, below, left, right = generator.integers(0, side // 4, 4)
    return replace(scene, ink=np.pad(scene.ink, ((above, below), (left, right))))


def grey(scene: Scene, generator: np.random.Generator) -> Scene:
    """Ink that is not black on paper that is not white."""
    return replace(scene, dark=generator.uniform(0.05, 0.35), light=generator.uniform(0.6, 0.97))


def thin(scene: Scene, _generator: np.random.Generator) -> Scene:
    """By a fine pen: the outline moves inwards by a third of a pixel of MNIST's; its finest strokes break."""
    # An edge blurred by a standard deviation of half such a pixel has 0.75 that far inside.
    blurred = np.asarray(_as_picture(scene.ink).filter(ImageFilter.GaussianBlur(len(scene.ink) / 56)), np.float32)
    return replace(scene, ink=(8 * (blurred / 255 - 0.75) + 0.5).clip(0, 1))


def chalk(scene: Scene, _generator: np.random.Generator) -> Scene:
    """Light on a dark board."""
    return replace(scene, dark=scene.light, light=scene.dark)


def ruled(scene: Scene, generator: np.random.Generator) -> Scene:
    """Three faint lines from edge to edge."""
    ink = scene.ink.copy()
    rows = generator.choice(len(ink), 3)
    ink[rows] = np.maximum(ink[rows], 0.25)
    return replace(scene, ink=ink)


def gradient(seen: Plane, generator: np.random.Generator) -> Plane:
    """A lamp on one side: the other side has down to 60 % of its light."""
    down, right = _coordinates(seen)
    angle = generator.uniform(0, 2 * math.pi)
    along = (down * math.sin(angle) + right * math.cos(angle)) / math.sqrt(2)
    dimmed: Plane = seen * (1 - generator.uniform(0, 0.4) * (1 + along) / 2)
    return dimmed


def vignette(seen: Plane, generator: np.random.Generator) -> Plane:
    """A lens: the corners have down to 65 % of the light of the middle."""
    down, right = _coordinates(seen)
    dimmed: Plane = seen * (1 - generator.uniform(0, 0.35) * (down**2 + right**2) / 2)
    return dimmed


def shadow(seen: Plane, generator: np.random.Generator) -> Plane:
    """Of a hand: from a line on, 55 to 80 % of the light."""
    down, right = _coordinates(seen)
    angle = generator.uniform(0, 2 * math.pi)
    depth = down * math.sin(angle) + right * math.cos(angle) - generator.uniform(-0.6, 0.6)
    shaded: Plane = seen * (1 - generator.uniform(0.2, 0.45) / (1 + np.exp(-40 * depth)))
    return shaded


def desk(seen: Plane, generator: np.random.Generator) -> Plane:
    """The sheet ends before the picture does: a dark desk along one or two of its edges."""
    seen = seen.copy()
    width = max(1, int(generator.uniform(0.01, 0.06) * min(seen.shape)))
    seen[:width] = generator.uniform(0.05, 0.3)
    if generator.random() < 0.5:
        seen[:, -width:] = seen[0, 0]
    return seen


def blur(seen: Plane, generator: np.random.Generator) -> Plane:
    """A focus that is off: every point becomes a square of up to 2 % of the shorter side."""
    blurred = _as_picture(seen).filter(ImageFilter.BoxBlur(generator.uniform(0, 0.01) * min(seen.shape)))
    return np.asarray(blurred, np.float32) / 255


def noise(seen: Plane, generator: np.random.Generator) -> Plane:
    """Of the sensor, a standard deviation of up to 5 % of white."""
    height, width = seen.shape
    quarter = generator.uniform(0.005, 0.05) * generator.standard_normal((-(-height // 2), -(-width // 2)), np.float32)
    return seen + np.tile(quarter, (2, 2))[:height, :width]


DRAWN: Sequence[Draw] = (turned, shifted, grey)
LIT: Sequence[See] = (gradient, vignette)
SENSED: Sequence[See] = (blur, noise)
SEEN: Sequence[See] = (*LIT, *SENSED)

HARDER: Mapping[str, tuple[Sequence[Draw], Sequence[See]]] = {
    "a fine pen": ((thin, *DRAWN), SEEN),
    "chalk": ((*DRAWN, chalk), SEEN),
    "ruled paper": ((*DRAWN, ruled), SEEN),
    "a shadow": (DRAWN, (*LIT, shadow, *SENSED)),
    "a desk": (DRAWN, (*LIT, desk, *SENSED)),
}
"""What not every photograph has, and all that each has besides."""


def photograph(
    image: Images,
    generator: np.random.Generator,
    drawn: Sequence[Draw] = DRAWN,
    seen: Sequence[See] = SEEN,
    quality: tuple[int, int] = (60, 90),
) -> bytes:
    """A JPEG file of one image of MNIST, uint8 (28, 28), with these disturbances; all of them unless told."""
    scene = sheet(image, generator)
    for draw in drawn:
        scene = draw(scene, generator)
    plane = scene.light + (scene.dark - scene.light) * scene.ink
    for see in seen:
        plane = see(plane, generator)
    file = BytesIO()
    _as_picture(plane).save(file, "JPEG", quality=int(generator.integers(*quality, endpoint=True)))
    return file.getvalue()


def _as_picture(plane: Plane) -> Image.Image:
    return Image.fromarray((255 * plane).clip(0, 255).astype(np.uint8))


def _coordinates(seen: Plane) -> tuple[Plane, Plane]:
    """Down (row, 1) and right (1, column), each [-1, 1]."""
    height, width = seen.shape
    return np.linspace(-1, 1, height, dtype=np.float32)[:, None], np.linspace(-1, 1, width, dtype=np.float32)[None]
