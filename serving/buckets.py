"""Runs a model on a card in batches of a few sizes only, from and into memory that stays where it is.

A card pays for what is new: memory, a copy from pages that may move, a size of batch for which a convolution has to
choose its algorithm. So a batch is laid into the next larger bucket, a power of two of images, whose memory on either
side was made once (onnxruntime.ai, "I/O Binding").
"""

import ctypes
import math
import mmap
import weakref
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from queue import SimpleQueue

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from serving.pixels import Images, ImageShape

INPUT = "images"

Outputs = Mapping[str, NDArray[np.float32]]

Lane = dict[int, "_Bucket"]
"""The buckets that one run uses at a time, by their sizes."""


class Buckets:
    """Runs one model for one thread at a time, or for as many as there are `lanes`, each with memory of its own.

    `device` is where the session's provider computes, "cuda" or "cpu". A size is set up when it is first run; whatever
    fails then, memory that lacks above all, is raised by that run.
    """

    def __init__(
        self, runtime: onnxruntime.InferenceSession, image_shape: ImageShape, *, device: str, lanes: int
    ) -> None:
        self._runtime = runtime
        self._image_shape = image_shape
        self._device = device
        self._lane_count = lanes
        self._free: SimpleQueue[Lane] = SimpleQueue()
        for _ in range(lanes):
            self._free.put({})

    def run(self, images: Images, options: onnxruntime.RunOptions | None = None) -> Outputs:
        """Every output of the model, float32 (image, …), for uint8 (image, *image_shape)."""
        with self._lane() as lane:
            return self._bucket(lane, len(images)).run(images, options)

    def set_up(self, image_count: int) -> None:
        """Run a batch of so many images in all lanes at once, so that no caller pays for a first time.

        At once, as onnxruntime makes streams and memory for as many runs as it has seen at the same time. For one
        thread, before others run anything: two that set up would wait for each other's lanes.
        """
        images = np.zeros((image_count, *self._image_shape), np.uint8)
        with ExitStack() as stack:
            lanes = [stack.enter_context(self._lane()) for _ in range(self._lane_count)]
            pool = stack.enter_context(ThreadPoolExecutor(len(lanes)))
            list(pool.map(lambda lane: self._bucket(lane, image_count).run(images), lanes))

    def _bucket(self, lane: Lane, image_count: int) -> "_Bucket":
        size = bucket_size(image_count)
        if size not in lane:
            lane[size] = _Bucket(self._runtime, (size, *self._image_shape), self._device)
        return lane[size]

    @contextmanager
    def _lane(self) -> Iterator[Lane]:
        lane = self._free.get()
        try:
            yield lane
        finally:
            self._free.put(lane)


class _Bucket:
    """One size of one lane: the memory of both sides, and what binds it to the model."""

    def __init__(self, runtime: onnxruntime.InferenceSession, shape: tuple[int, ...], device: str) -> None:
        of_shape = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        self._runtime = runtime
        self._here = PageLocked(shape)
        self._there = of_shape(shape, np.uint8, device)
        self._outputs = {
            output.name: of_shape((shape[0], *output.shape[1:]), np.float32, device) for output in runtime.get_outputs()
        }
        self._binding = runtime.io_binding()
        self._binding.bind_ortvalue_input(INPUT, self._there)
        for name, output in self._outputs.items():
            self._binding.bind_ortvalue_output(name, output)

    def run(self, images: Images, options: onnxruntime.RunOptions | None = None) -> Outputs:
        """Every output for the images; what lies behind them in the bucket is computed too, and dropped."""
        self._here.array[: len(images)] = images
        self._there.update_inplace(self._here.array)
        self._runtime.run_with_iobinding(self._binding, options)
        return {name: np.array(output.numpy()[: len(images)]) for name, output in self._outputs.items()}


def bucket_size(image_count: int) -> int:
    """The smallest power of two that holds so many images."""
    return 1 << (image_count - 1).bit_length()


class PageLocked:
    """Zeros, uint8, in pages that do not move, which a card reads by itself; usual memory where CUDA locks none.

    Attributes:
        array: uint8 of the shape that was asked for; not to be used once this object is gone.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        size = math.prod(shape)
        pages = mmap.mmap(-1, size)
        self.array: Images = np.frombuffer(pages, np.uint8).reshape(shape)
        runtime, address = _cuda_runtime(), ctypes.c_void_p(self.array.ctypes.data)
        if runtime is None:
            return
        if runtime.cudaHostRegister(address, ctypes.c_size_t(size), 0) == 0:
            # A finalizer holds on to the pages until it has run; at the end of the process nobody needs it.
            weakref.finalize(self, _unlock, runtime, address, pages).atexit = False
        else:
            runtime.cudaGetLastError()  # else onnxruntime finds it behind its next kernel, and takes it for that one's


def _unlock(runtime: ctypes.CDLL, address: ctypes.c_void_p, _pages: mmap.mmap) -> None:
    runtime.cudaHostUnregister(address)


def _cuda_runtime() -> ctypes.CDLL | None:
    """CUDA's own library, which onnxruntime has loaded where it runs on a card."""
    try:
        return ctypes.CDLL("libcudart.so.13")
    except OSError:
        return None
