"""The images on which a graph and its origin would part first."""

import numpy as np
import onnx
from numpy.typing import NDArray

COLOURS = 3  # the channels of a colour image

Images = NDArray[np.uint8]


def extremes(model: onnx.ModelProto) -> Images:
    """Images that no data set holds: empty, full, chequered, one pixel, a ramp, noise; in colour in each ink too."""
    dimensions = model.graph.input[0].type.tensor_type.shape.dim[1:]
    height, width, *colours = (dimension.dim_value for dimension in dimensions)
    rows, columns = np.indices((height, width))
    one_pixel = np.zeros((height, width))
    one_pixel[height // 2, width // 2] = 255
    pictures = [
        np.zeros((height, width)),
        np.full((height, width), 255),
        255 * ((rows + columns) % 2),
        one_pixel,
        255 * columns // max(1, width - 1),
        *np.random.default_rng(0).integers(0, 256, (3, height, width)),
    ]
    extremes = np.stack(pictures).astype(np.uint8)
    return _coloured(extremes) if colours else extremes


def _coloured(grey: Images) -> Images:
    """Each picture in white, red, green and blue, and noise in which every channel is another."""
    noise = np.random.default_rng(1).integers(0, 256, (1, *grey.shape[1:], COLOURS), np.uint8)
    inks = np.concatenate([np.ones((1, COLOURS), np.uint8), np.eye(COLOURS, dtype=np.uint8)])
    return np.concatenate([noise, *(grey[..., np.newaxis] * ink for ink in inks)])
