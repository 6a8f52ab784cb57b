"""Decodes files in a thread of its own, so that neither the event loop nor a swap waits for it."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from serving.errors import OverloadedError
from serving.photos.prepare import from_photo
from serving.pixels import Images, ImageShape, from_png

FULL_RETRY_S = 0.1


class Decoder:
    """One thread and a bounded queue, for PNG files and for photos."""

    def __init__(self, *, max_queue_images: int, max_photo_pixels: int) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="decode")
        self._max_queue_images = max_queue_images
        self._max_photo_pixels = max_photo_pixels
        self._queued_images = 0

    async def png(self, files: Sequence[bytes], shape: ImageShape) -> Images:
        """Decode PNG files; raises OverloadedError at once when too many files wait, and what `from_png` raises."""
        with self._room(len(files)):
            return await self._run(from_png, files, shape)

    async def photos(self, files: Sequence[bytes], shape: ImageShape) -> Images:
        """Prepare photos; raises OverloadedError at once when too many files wait, and what `from_photo` raises.

        They are large: one goes after the other, so that calls take turns, and one that is cancelled ends.
        """
        with self._room(len(files)):
            return np.stack([await self._photo(file, index, shape) for index, file in enumerate(files)])

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _photo(self, file: bytes, index: int, shape: ImageShape) -> Images:
        return await self._run(from_photo, file, f"photos[{index}]", shape, self._max_photo_pixels)

    async def _run(self, decode: Callable[..., Images], *arguments: Any) -> Images:
        return await asyncio.get_running_loop().run_in_executor(self._pool, decode, *arguments)

    @contextmanager
    def _room(self, image_count: int) -> Iterator[None]:
        if self._queued_images + image_count > self._max_queue_images:
            raise OverloadedError(
                f"too many files wait to be decoded: {self._queued_images} of at most {self._max_queue_images}",
                retry_after_s=FULL_RETRY_S,
            )
        self._queued_images += image_count
        try:
            yield
        finally:
            self._queued_images -= image_count
