"""From the bytes of a request to images: uint8 (image, row, column), 0 is background."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from serving.errors import InvalidRequestError

Images = NDArray[np.uint8]
"""Images: uint8 (image, row, column), [0, 255]."""


def from_pixels(pixels: bytes, image_count: int, *, height: int, width: int) -> Images:
    """View `pixels` as images without a copy; raises InvalidRequestError when the length does not fit."""
    expected = image_count * height * width
    if len(pixels) != expected:
        raise InvalidRequestError(
            f"pixels: came {len(pixels)} bytes, expected {expected}: {image_count} images of {height} x {width} bytes",
            field="pixels",
            metadata={"came_bytes": len(pixels), "expected_bytes": expected},
        )
    return np.frombuffer(pixels, np.uint8).reshape(image_count, height, width)


def from_png(files: Sequence[bytes], *, height: int, width: int) -> Images:
    """Decode PNG files; raises InvalidRequestError naming the first that is none or has another size."""
    images = np.empty((len(files), height, width), np.uint8)
    for index, file in enumerate(files):
        images[index] = _decode(file, f"encoded_images[{index}]", height, width)
    return images


def _decode(file: bytes, name: str, height: int, width: int) -> NDArray[np.uint8]:
    try:
        # Only the header is read here: a decompression bomb is refused by its size, before anything is inflated.
        with PngImageFile(BytesIO(file)) as image:
            if image.size != (width, height):
                raise InvalidRequestError(
                    f"{name}: came {image.width} x {image.height} pixels, expected {width} x {height}: scale it first",
                    field=name,
                    metadata={"came": f"{image.width}x{image.height}", "expected": f"{width}x{height}"},
                )
            return np.asarray(image.convert("L"))
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise InvalidRequestError(
            f"{name}: came {len(file)} bytes that are no PNG file that can be decoded", field=name
        ) from error
