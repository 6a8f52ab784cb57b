"""From a photo to an image, as MNIST's were made: cropped to the ink, scaled into a box, centred by mass.

Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition", 1998, III.A:
20 x 20 of 28 x 28 pixels, aspect ratio kept, grey levels from antialiasing.
"""

import numpy as np
from PIL import Image, ImageFilter

from serving.errors import InvalidRequestError
from serving.photos.decode import Picture, decode
from serving.photos.ink import Plane, contrast, scaled
from serving.photos.strokes import Mask, digit
from serving.pixels import Images, ImageShape

BOX = 20 / 28
"""The share of an image's height and width that the digit is scaled into."""
THIN = 2.2 / 20
"""Strokes narrower than this share of the digit's longer side are widened to it: three in four of MNIST's are wider."""
GRAIN = 1 / 320
"""What is finer than this share of the longer side is the sensor's noise, or the paper's: it is blurred away."""
LEAST = 0.06
"""Ink must stand out by this share of the ground's brightness, and by NOISES standard deviations of it."""
NOISES = 4
LOW, HIGH = 0.4, 0.5
"""Of the ink's own contrast: what belongs to a stroke, and what makes it one."""
FAINTEST, FULL = 0.15, 0.9
"""Of the ink's own contrast: what becomes 0, and what becomes 255."""
OUTLINE = 0.1
"""Where a stroke ends, of 1."""


def from_photo(file: bytes, name: str, shape: ImageShape, max_pixels: int) -> Images:
    """Make an image, uint8 `shape` of (height, width), of a PNG, JPEG or WebP file that shows one sign.

    Raises InvalidRequestError that begins with `name`: for a file that cannot be decoded, of more than `max_pixels` or
    without ink, and for a model that takes colour, as nobody knows what colours it would expect.
    """
    if len(shape) != 2:
        raise InvalidRequestError(
            f"{name}: a photo becomes grey ink, and the model takes colour: send pixels or encoded_images", field=name
        )
    ink = _ink(decode(file, name, max_pixels=max_pixels))
    if ink is None:
        raise InvalidRequestError(
            f"{name}: shows no ink: expected one sign that stands out from an even ground", field=name
        )
    return _centred(_boxed(_widened(ink), (shape[0], shape[1])), (shape[0], shape[1]))


def _ink(picture: Picture) -> Plane | None:
    """The digit cropped to its box, float32 (row, column), [0, 1]; None where there is none."""
    grain = ImageFilter.GaussianBlur(GRAIN * max(picture.shape))
    ink = contrast(np.asarray(Image.fromarray(picture).filter(grain)))
    sample = ink[::2, ::2]
    if np.ptp(sample) < LEAST:
        return None
    ground = float(np.median(sample))
    noise = 1.4826 * float(np.median(np.abs(sample - ground)))
    above = sample[sample > _threshold(sample)] - ground
    full = float(np.median(above)) if above.size else 0.0
    if full < max(LEAST, NOISES * noise):
        return None
    ink -= ground
    mask = _grown(digit(ink, low=max(LOW * full, min(3 * noise, 0.45 * full)), high=HIGH * full))
    levels: Plane = ((ink / full - FAINTEST) / (FULL - FAINTEST)).clip(0, 1) * mask
    return _cropped(levels)


def _threshold(values: Plane) -> float:
    """Otsu's: it splits the values into two classes that differ most."""
    counts, edges = np.histogram(values, 128)
    middles = (edges[1:] + edges[:-1]) / 2
    below, sums = counts.cumsum(), (counts * middles).cumsum()
    above = below[-1] - below
    apart = sums / np.maximum(below, 1) - (sums[-1] - sums) / np.maximum(above, 1)
    return float(edges[1 + int(np.argmax(below * above * apart**2))])


def _grown(mask: Mask) -> Mask:
    """By a pixel on every side: where strokes fade out."""
    grown = np.pad(mask, 1)
    grown = grown[:-2] | grown[1:-1] | grown[2:]
    return grown[:, :-2] | grown[:, 1:-1] | grown[:, 2:]


def _cropped(levels: Plane) -> Plane | None:
    inside = levels > OUTLINE
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    return levels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if rows.size else None


def _widened(ink: Plane) -> Plane:
    """The strokes no narrower than THIN: a fine pen's would fade when they are scaled."""
    side = max(ink.shape)
    grow = round((THIN * side - _stroke_width(ink)) / 2)
    if grow < 1:
        return ink
    picture = Image.fromarray((255 * np.pad(ink, grow)).astype(np.uint8)).filter(ImageFilter.MaxFilter(2 * grow + 1))
    return np.asarray(picture, np.float32) / np.float32(255)


def _stroke_width(ink: Plane) -> float:
    """Twice the area by the outline, in pixels; steps along rows and columns see 4 / π of an outline's length."""
    padded = np.pad(ink, 1)
    outline = sum(float(np.abs(np.diff(padded, axis=axis)).sum()) for axis in (0, 1)) * np.pi / 4
    return 2 * float(ink.sum()) / outline


def _boxed(ink: Plane, size: tuple[int, int]) -> Plane:
    """Scaled into the box, the aspect ratio kept, its darkest at 1."""
    scale = min(BOX * whole / part for whole, part in zip(size, ink.shape, strict=True))
    height, width = (max(1, round(scale * part)) for part in ink.shape)
    boxed = scaled(ink, (height, width))
    return (boxed / max(float(np.percentile(boxed, 99)), OUTLINE)).clip(0, 1)


def _centred(ink: Plane, size: tuple[int, int]) -> Images:
    """Its centre of mass in the middle of an image, as far as all of it stays inside."""
    image = np.zeros(size, np.uint8)
    top, left = (_offset(ink.sum(axis=1 - axis), size[axis]) for axis in (0, 1))
    image[top : top + ink.shape[0], left : left + ink.shape[1]] = (255 * ink).round()
    return image


def _offset(mass: Plane, extent: int) -> int:
    centre = float(mass @ np.arange(len(mass))) / float(mass.sum())
    return min(max(round(extent / 2 - centre), 0), extent - len(mass))
