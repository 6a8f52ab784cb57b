"""The model as every other server here runs it: onnxruntime, one thread, nothing around it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Probabilities = NDArray[np.float32]
Model = Callable[[Images], Probabilities]
"""From images, uint8 (image, row, column), to probabilities, float32 (image, class)."""


def load(path: Path) -> Model:
    """Load an ONNX file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(images: Images) -> Probabilities:
        (probabilities,) = session.run(["probabilities"], {"images": images})
        return np.asarray(probabilities)

    return run


def from_bytes(pixels: bytes) -> Images:
    """View bytes as images of 28 x 28 pixels."""
    return np.frombuffer(pixels, np.uint8).reshape(-1, 28, 28)


def run_together(model: Model, calls: Sequence[Images]) -> list[Any]:
    """Run the images of several calls as one batch; each call gets its part."""
    ends = np.cumsum([len(images) for images in calls])[:-1]
    return np.split(model(np.concatenate(calls)), ends)
