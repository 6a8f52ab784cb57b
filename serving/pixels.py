"""From the bytes of a request to images: uint8 (image, row, column) or (image, row, column, 3), 0 is background."""

import math
from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from serving.errors import InvalidRequestError

Images = NDArray[np.uint8]
"""Images: uint8 (image, row, column), or (image, row, column, 3) of red, green, blue; [0, 255]."""

ImageShape = tuple[int, ...]
"""Of one image: (height, width), or (height, width, 3)."""


def check_pixels(pixels: bytes, image_count: int, shape: ImageShape) -> None:
    """Raise InvalidRequestError when `pixels` are not those of so many images."""
    expected = image_count * math.prod(shape)
    if len(pixels) != expected:
        raise InvalidRequestError(
            f"pixels: came {len(pixels)} bytes, expected {expected}: {image_count} images of "
            f"{' x '.join(map(str, shape))} bytes",
            field="pixels",
            metadata={"came_bytes": len(pixels), "expected_bytes": expected},
        )


def from_pixels(pixels: bytes, image_count: int, shape: ImageShape) -> Images:
    """View `pixels` as images without a copy; raises InvalidRequestError when the length does not fit."""
    check_pixels(pixels, image_count, shape)
    return np.frombuffer(pixels, np.uint8).reshape(image_count, *shape)


def from_png(files: Sequence[bytes], shape: ImageShape) -> Images:
    """Decode PNG files; raises InvalidRequestError naming the first that is none or has another size.

    Colour becomes grey where the model takes grey, and grey becomes colour where it takes colour.
    """
    images = np.empty((len(files), *shape), np.uint8)
    for index, file in enumerate(files):
        images[index] = _decode(file, f"encoded_images[{index}]", shape)
    return images


def _decode(file: bytes, name: str, shape: ImageShape) -> Images:
    height, width, *colours = shape
    try:
        # Only the header is read here: a decompression bomb is refused by its size, before anything is inflated.
        with PngImageFile(BytesIO(file)) as image:
            _check(image, name, (width, height))
            return np.asarray(image.convert("RGB" if colours else "L"))
    except InvalidRequestError:
        raise
    except Exception as error:  # Pillow raises nearly anything on a broken file: IndexError, struct.error, SyntaxError
        raise InvalidRequestError(
            f"{name}: came {len(file)} bytes that are no PNG file that can be decoded", field=name
        ) from error


def _check(image: PngImageFile, name: str, size: tuple[int, int]) -> None:
    """Refuse another size, and what would lose its meaning as eight bits a channel."""
    if image.size != size:
        came, expected = (f"{width} x {height}" for width, height in (image.size, size))
        raise InvalidRequestError(
            f"{name}: came {came} pixels, expected {expected}: scale it first, or send it as one of photos",
            field=name,
            metadata={"came": came, "expected": expected},
        )
    if ";16" in str(image.tile):  # Pillow itself cuts the colours of such a file to 8 bits, and says nothing
        raise InvalidRequestError(f"{name}: came more than 8 bits a channel, expected 8: convert it first", field=name)
    if getattr(image, "is_animated", False):
        raise InvalidRequestError(f"{name}: came an animation, expected one picture: save a frame of it", field=name)
    if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
        raise InvalidRequestError(f"{name}: came transparent pixels, expected none: flatten it first", field=name)
