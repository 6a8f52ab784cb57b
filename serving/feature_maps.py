"""What the layers of a network make of one image: run by onnxruntime from features.onnx, told as bytes."""

import logging
from collections.abc import Callable

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from protos.artifact.layout import FEATURES
from protos.digits.v1 import digits_pb2
from serving.errors import NoFeatureMapsError, VersionRefusedError
from serving.pixels import Images, ImageShape
from serving.versions.manifest import Version

log = logging.getLogger(__name__)

FULL = 255
"""The byte that stands for the greatest value of a layer."""


class Features:
    """features.onnx of one version. It is loaded when somebody looks for the first time: most versions nobody asks.

    `load` makes an onnxruntime session of its bytes and raises VersionRefusedError. What was not published, or cannot
    be loaded, is told to who looks, and costs the version nothing. Not to be used by two threads at once.
    """

    def __init__(self, version: Version, load: Callable[[bytes], onnxruntime.InferenceSession]) -> None:
        self._name = f"version {version.manifest.version}"
        self._content = version.features
        self._image_shape = version.image_shape
        self._load = load
        self._runtime: onnxruntime.InferenceSession | None = None
        self._fault = "it was published without them"

    def look(self, images: Images) -> list[digits_pb2.FeatureMaps]:
        """What each layer makes of one image, uint8 (1, *image_shape); raises NoFeatureMapsError."""
        runtime = self._loaded()
        names = [output.name for output in runtime.get_outputs()]
        layers = runtime.run(names, {"images": images})
        return [to_message(name, maps[0]) for name, maps in zip(names, layers, strict=True)]

    def _loaded(self) -> onnxruntime.InferenceSession:
        if self._content is not None:
            content, self._content = self._content, None  # once, whatever comes of it
            self._try_to_load(content)
        if self._runtime is None:
            raise NoFeatureMapsError(
                f"model_version: {self._name} has no feature maps to show: {self._fault}; publish it anew, "
                "of a network that shows them",
                field="model_version",
            )
        return self._runtime

    def _try_to_load(self, content: bytes) -> None:
        try:
            runtime = self._load(content)
            _check_signature(runtime, self._image_shape)
            self._runtime = runtime
        except VersionRefusedError as error:
            self._fault = str(error)
            log.error("%s cannot show feature maps: %s", self._name, error)  # noqa: TRY400 - the sentence says it all


def _check_signature(runtime: onnxruntime.InferenceSession, image_shape: ImageShape) -> None:
    """Demand the images of the model, and maps behind every layer."""
    inputs = [(tensor.name, tensor.type, tuple(tensor.shape[1:])) for tensor in runtime.get_inputs()]
    outputs = {(tensor.type, len(tensor.shape)) for tensor in runtime.get_outputs()}
    wanted = [("images", "tensor(uint8)", image_shape)]
    if inputs != wanted or outputs != {("tensor(float)", 4)}:
        raise VersionRefusedError(
            f"{FEATURES}: takes {inputs} and gives {sorted(outputs)}, expected {wanted} and tensor(float) with 4 sizes"
        )


def to_message(name: str, maps: NDArray[np.float32]) -> digits_pb2.FeatureMaps:
    """The maps behind a layer, float32 (feature, row, column), as a message: a byte a value."""
    minimum, maximum = float(maps.min()), float(maps.max())
    feature_count, height, width = maps.shape
    return digits_pb2.FeatureMaps(
        name=name,
        feature_count=feature_count,
        height=height,
        width=width,
        intensities=_intensities(maps, minimum, maximum).tobytes(),
        minimum=minimum,
        maximum=maximum,
    )


def _intensities(maps: NDArray[np.float32], minimum: float, maximum: float) -> NDArray[np.uint8]:
    """uint8 of the same shape: 0 for the minimum, 255 for the maximum; 0 everywhere where they are the same."""
    scale = maximum - minimum or 1.0
    intensities: NDArray[np.uint8] = np.rint((maps - minimum) / scale * FULL).astype(np.uint8)
    return intensities
