"""One picture: from the bytes of its file to pixels, or a sentence that says why not.

What serving would refuse as a PNG is refused here too: alpha, more than 8 bits a channel, animations.
"""

import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pipeline.data.pictures.layout import shown
from pipeline.errors import DataError

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")  # CMYK, YCbCr and the like need a profile to be seen
OPAQUE = 255

Pixels = NDArray[np.uint8]
"""One picture: uint8 (row, column) where it is grey throughout, else (row, column, 3) of red, green, blue."""


def decode(content: bytes, path: Path, *, size: int | None) -> Pixels:
    """Decode a picture of `size` x `size` pixels, None for any square; DataError that begins with `path`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata that nobody needs
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(BytesIO(content), formats=FORMATS) as image:
                fault = _size_fault(image, size) or _fault(image)
                pixels = None if fault else _pixels(image)
    except Exception as error:  # Pillow raises nearly anything on a broken file: IndexError, struct.error, SyntaxError
        raise DataError(
            f"{shown(path)}: {len(content)} bytes that cannot be decoded ({type(error).__name__}); expected a whole "
            f"{', '.join(FORMATS)} file: replace or remove it"
        ) from error
    if pixels is None:
        raise DataError(f"{shown(path)}: {fault}")
    return pixels


def _size_fault(image: Image.Image, size: int | None) -> str | None:
    """Looked at before anything is inflated."""
    width, height = image.size
    if width != height:
        return f"has {width} x {height} pixels; expected a square: crop or pad every picture to one"
    if size is not None and width != size:
        return f"has {width} x {width} pixels; expected {size} x {size}, as the first picture: scale all to one size"
    return None


def _fault(image: Image.Image) -> str | None:
    """What would lose its meaning as 8 bits a channel of grey or of red, green, blue."""
    if getattr(image, "is_animated", False):
        return "is an animation; expected one picture: save a frame of it"
    if image.mode.startswith(("I", "F")) or ";16" in str(getattr(image, "tile", "")):
        return "has more than 8 bits a channel; expected 8: convert it first"
    if image.mode not in MODES:
        return f"has colours of the mode {image.mode}; expected grey or RGB: convert it first"
    if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < OPAQUE:
        return "has transparent pixels; expected none: flatten it first"
    return None


def _pixels(image: Image.Image) -> Pixels:
    # Cameras write how they were held; of a PNG, as of one that is sent to a server, the pixels count as they lie.
    upright = image if image.format == "PNG" else ImageOps.exif_transpose(image)
    if upright.mode in ("1", "L"):
        return np.asarray(upright.convert("L"))
    pixels = np.asarray(upright.convert("RGB"))
    is_grey = bool((pixels == pixels[..., :1]).all())
    return pixels[..., 0] if is_grey else pixels
