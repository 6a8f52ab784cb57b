"""One photo: from the bytes of its file to a small grey picture, whatever a camera or a canvas has made of it."""

from contextlib import suppress
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from serving.errors import InvalidRequestError

Picture = NDArray[np.uint8]
"""Grey: uint8 (row, column), [0, 255], 0 is black."""

SIDE = 192
"""The longer side of what is decoded, in pixels, at most: a digit that fills a tenth of it has as many as MNIST's."""

FORMATS: tuple[tuple[bytes, int, type[ImageFile]], ...] = (
    (b"\x89PNG\r\n\x1a\n", 0, PngImageFile),
    (b"\xff\xd8\xff", 0, JpegImageFile),
    (b"WEBP", 8, WebPImageFile),
)
"""How a file of each format begins: these bytes at this place."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF's orientation, and what makes it upright."""

SCAN, MAX_SCANS = b"\xff\xda", 100
"""How a scan of a JPEG file begins, and how many there may be: each is decoded over all pixels. Ten are usual."""

OPAQUE = 255
DRAWN_SPREAD = 24
"""Opaque pixels whose brightness varies less (standard deviation) are ink alone, drawn on nothing."""


def decode(file: bytes, name: str, *, max_pixels: int) -> Picture:
    """Decode a PNG, JPEG or WebP file, upright and scaled to at most SIDE; InvalidRequestError that begins with `name`.

    Transparent pixels become a ground that the rest stands out from.
    """
    opener = _opener(file, name)
    if opener is JpegImageFile and (scans := file.count(SCAN)) > MAX_SCANS:
        raise InvalidRequestError(
            f"{name}: came a JPEG file of {scans} scans, expected {MAX_SCANS} at most: save it again", field=name
        )
    if opener is WebPImageFile:  # Pillow makes room for all pixels as it opens one
        _check_size(_webp_size(file), name, max_pixels)
    try:
        # Only the header is read here: a decompression bomb is refused by its size, before anything is inflated.
        with opener(BytesIO(file)) as image:
            _check(image, name, max_pixels)
            return np.asarray(_upright(_grey(image), _orientation(image)))
    except InvalidRequestError:
        raise
    except Exception as error:  # Pillow raises nearly anything on a broken file: IndexError, struct.error, SyntaxError
        raise InvalidRequestError(
            f"{name}: came {len(file)} bytes that cannot be decoded ({type(error).__name__}), expected a whole PNG, "
            "JPEG or WebP file: save it again",
            field=name,
        ) from error


def _opener(file: bytes, name: str) -> type[ImageFile]:
    """By the file's first bytes: no other decoder of Pillow's ever sees what a caller sends."""
    for magic, at, opener in FORMATS:
        if file.startswith(magic, at):
            return opener
    raise InvalidRequestError(
        f"{name}: came {len(file)} bytes that begin with {file[:4].hex() or 'nothing'}, expected a PNG, JPEG or WebP "
        "file: convert it first",
        field=name,
    )


def _webp_size(file: bytes) -> tuple[int, int]:
    """Width and height, as the first chunk says: https://developers.google.com/speed/webp/docs/riff_container."""
    match file[12:16]:
        case b"VP8X":
            return 1 + int.from_bytes(file[24:27], "little"), 1 + int.from_bytes(file[27:30], "little")
        case b"VP8L":
            bits = int.from_bytes(file[21:25], "little")
            return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(file[26:28], "little") & 0x3FFF, int.from_bytes(file[28:30], "little") & 0x3FFF


def _check(image: ImageFile, name: str, max_pixels: int) -> None:
    _check_size(image.size, name, max_pixels)
    if getattr(image, "is_animated", False):
        raise InvalidRequestError(f"{name}: came an animation, expected one picture: save a frame of it", field=name)


def _check_size(size: tuple[int, int], name: str, max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise InvalidRequestError(
            f"{name}: came {width} x {height} pixels, expected {max_pixels} at most: scale it down first",
            field=name,
            metadata={"came": f"{width} x {height}", "max_photo_pixels": max_pixels},
        )


def _grey(image: ImageFile) -> Image.Image:
    """Mode L, at most SIDE on the longer side."""
    image.draft("L", (SIDE, SIDE))  # a JPEG file is decoded at an eighth, a quarter or half of its size
    if image.mode.startswith("I"):  # 16 bits a pixel, which convert would clip
        return _small(Image.fromarray((np.asarray(image).astype(np.int32) >> 8).astype(np.uint8)))
    if image.has_transparency_data:
        return _on_ground(_small(image if image.mode == "RGBA" else image.convert("RGBA")))
    return _small(image if image.mode == "L" else image.convert("RGB").convert("L"))


def _small(image: Image.Image) -> Image.Image:
    scale = max(image.size) / SIDE
    if scale <= 1:
        return image
    size = (max(1, round(image.width / scale)), max(1, round(image.height / scale)))
    return image.resize(size, Image.Resampling.BOX, reducing_gap=2)


def _on_ground(image: Image.Image) -> Image.Image:
    """An RGBA picture without its alpha.

    What is mostly opaque and not of one brightness brings its own ground; what is not is ink drawn on nothing, and gets
    the one of white and black that is farther from it.
    """
    alpha = np.asarray(image)[..., 3].astype(np.float32) / OPAQUE
    grey = np.asarray(image.convert("RGB").convert("L")).astype(np.float32)
    opaque = grey[alpha > 0.5]
    if opaque.size > alpha.size / 2 and opaque.std() > DRAWN_SPREAD:
        ground = float(np.median(opaque))
    else:
        ground = 0.0 if opaque.size and opaque.mean() > 127 else 255.0
    return Image.fromarray((alpha * grey + (1 - alpha) * ground).round().astype(np.uint8))


def _orientation(image: ImageFile) -> int | None:
    with suppress(Exception):  # of broken metadata, which is no reason to refuse a picture that can be seen
        orientation: int | None = image.getexif().get(ExifTags.Base.Orientation)
        return orientation
    return None


def _upright(image: Image.Image, orientation: int | None) -> Image.Image:
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image
