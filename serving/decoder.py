"""Decodes files aside, so that neither the event loop nor a swap waits for it."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from serving.aside import Aside
from serving.photos.prepare import from_photo
from serving.pixels import Images, ImageShape, from_png

MAX_PHOTOS = 64
"""So many may wait: each is megabytes, and milliseconds of work."""


class Decoder:
    """A thread for PNG files, which have the size of an image, and one for photos, which may have any."""

    def __init__(self, *, max_queue_images: int, max_photo_pixels: int) -> None:
        self._max_photo_pixels = max_photo_pixels
        self._files = Aside("PNG files to be decoded", max_waiting=max_queue_images)
        self._photos = Aside("photos to be prepared", max_waiting=min(MAX_PHOTOS, max_queue_images))

    async def png(self, files: Sequence[bytes], shape: ImageShape) -> Images:
        """Decode PNG files; raises OverloadedError at once when too many files wait, and what `from_png` raises."""
        return await self._files.do(partial(from_png, files, shape), size=len(files))

    async def photos(self, files: Sequence[bytes], shape: ImageShape) -> Images:
        """Prepare photos; raises OverloadedError when too many wait, and what `from_photo` raises.

        One goes after the other, so that calls take turns, and one that is cancelled ends.
        """
        return np.stack([await self._photo(file, index, shape) for index, file in enumerate(files)])

    def close(self) -> None:
        """End the threads."""
        self._files.close()
        self._photos.close()

    async def _photo(self, file: bytes, index: int, shape: ImageShape) -> Images:
        return await self._photos.do(partial(from_photo, file, f"photos[{index}]", shape, self._max_photo_pixels))
