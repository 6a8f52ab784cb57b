"""The Python client: numpy in, typed results out. Needs grpcio, googleapis-common-protos and numpy, not onnxruntime.

    from serving.client import DigitClient

    with DigitClient("localhost:50051") as client:
        print(client.classify(images).digits)

    with DigitClient("digits.example:443", credentials=tls(ca=Path("ca.pem"))) as client:
        ...

Every method raises a `serving.errors.ServingError` with the server's own detail.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import grpc
import numpy as np
from google.protobuf.message import Message
from google.rpc import status_pb2
from numpy.typing import ArrayLike, NDArray

from protos.digits.v1 import digits_pb2
from protos.digits.v1.digits_pb2 import (
    ClassifyRequest,
    ClassifyResponse,
    GetFeatureMapsRequest,
    GetFeatureMapsResponse,
    GetModelRequest,
    GetModelResponse,
)
from serving.errors import DeadlineError, InvalidRequestError, ServingError, UnavailableError, from_status
from serving.own_address import without_proxy

TIMEOUT_S = 10.0
_SERVICE = "/digits.v1.DigitService"
_STATUS_DETAILS = "grpc-status-details-bin"
_TOO_LARGE = "larger than max"  # grpcio's words for a message above the limit, which no retry can mend
_WAIT_S = 0.05
_OPTIONS = [
    ("grpc.max_receive_message_length", -1),  # the server is the one that limits
    ("grpc.use_local_subchannel_pool", 1),  # a connection a client: behind a port may be several processes
]

Credentials = grpc.ChannelCredentials
"""Who a client trusts, and who it says that it is."""

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


@dataclass(frozen=True)
class Classifications:
    """The answers of one call, in the order of its images."""

    digits: NDArray[np.int32]
    """int32 (image,): the index of the most probable label"""
    probabilities: NDArray[np.float32]
    """float32 (image, label), [0, 1]"""
    model_name: str
    model_version: int
    provider: str
    """The onnxruntime execution provider that ran the model."""
    images: NDArray[np.uint8] | None = None
    """uint8 (image, row, column), 0 is background: what was made of photos; None where none were sent"""

    @property
    def confidences(self) -> NDArray[np.float32]:
        """float32 (image,): the probability of the answered digit, [0, 1]."""
        confidences: NDArray[np.float32] = self.probabilities.max(axis=1)
        return confidences


@dataclass(frozen=True)
class FeatureMaps:
    """What the layers of the network make of one image."""

    layers: dict[str, NDArray[np.float32]]
    """The maps behind each layer, by its name, from the image to the readout: float32 (feature, row, column).

    They travel as bytes: a value is off by at most 1/510 of what lies between the least and the greatest of its layer.
    """
    model_name: str
    model_version: int
    provider: str
    """The onnxruntime execution provider that ran the model."""


@dataclass(frozen=True)
class Model:
    """One loaded model version."""

    name: str
    version: int
    sha256: str
    provider: str
    image_height: int
    image_width: int
    image_channels: int
    """1 for grey; 3 for red, green, blue."""
    labels: tuple[str, ...]
    max_image_count: int
    accuracy: float
    """The share of test images that the pipeline found it to label rightly, [0, 1]."""
    refusal: str
    """Why the newest version is not the one that answers; empty when it is."""
    loaded_versions: tuple[int, ...]
    """Every version that answers calls which name it."""


def tls(ca: Path | None = None, certificate: Path | None = None, key: Path | None = None) -> Credentials:
    """What a client needs for a server with TLS, from PEM files.

    `ca` holds the certificates of who vouches for the server; None takes those that grpcio brings. `certificate` and
    `key` are the caller's own, for a server that asks for them. Raises OSError where a file cannot be read.
    """
    return grpc.ssl_channel_credentials(
        *(None if path is None else path.read_bytes() for path in (ca, key, certificate))
    )


class DigitClient:
    """A client for one server; safe to share between threads. Without `credentials` nothing is encrypted."""

    def __init__(self, address: str, *, timeout_s: float = TIMEOUT_S, credentials: Credentials | None = None) -> None:
        self._timeout_s = timeout_s
        self._channel = _connect(grpc, address, credentials)
        self._classify = _method(self._channel, "Classify", ClassifyRequest, ClassifyResponse)
        self._get_model = _method(self._channel, "GetModel", GetModelRequest, GetModelResponse)
        self._get_feature_maps = _method(self._channel, "GetFeatureMaps", GetFeatureMapsRequest, GetFeatureMapsResponse)

    def classify(
        self, images: ArrayLike, *, model_version: int | None = None, timeout_s: float | None = None
    ) -> Classifications:
        """Classify uint8 images, (image, row, column) or (image, row, column, 3), or one grey image (row, column).

        0 is background, 255 ink; three bytes a pixel are red, green, blue. One colour image is a batch of one,
        `image[np.newaxis]`: with three dimensions it would be read as grey images.
        `model_version` names a version that the server has loaded; None takes the current one.
        """
        request = _pixels_request(images, model_version)
        return _classifications(self._call(self._classify, request, timeout_s))

    def classify_png(
        self, files: Sequence[bytes], *, model_version: int | None = None, timeout_s: float | None = None
    ) -> Classifications:
        """Classify the contents of PNG files, each of the model's size."""
        request = ClassifyRequest(encoded_images=files, model_version=model_version)
        return _classifications(self._call(self._classify, request, timeout_s))

    def classify_photos(
        self, files: Sequence[bytes], *, model_version: int | None = None, timeout_s: float | None = None
    ) -> Classifications:
        """Classify the contents of PNG, JPEG or WebP files of any size, each a photo or a drawing of one digit.

        The server makes an image of each, as MNIST was made; `images` of the answer holds them.
        """
        request = ClassifyRequest(photos=files, model_version=model_version)
        return _classifications(self._call(self._classify, request, timeout_s))

    def model(self, *, model_version: int | None = None, timeout_s: float | None = None) -> Model:
        """Describe the model version that answers now, or the one that `model_version` names."""
        return _model(self._call(self._get_model, GetModelRequest(model_version=model_version), timeout_s))

    def feature_maps(
        self, image: ArrayLike, *, model_version: int | None = None, timeout_s: float | None = None
    ) -> FeatureMaps:
        """Show what each layer makes of one uint8 image, (row, column) or (row, column, 3); for people who look."""
        request = _feature_maps_request(image, model_version)
        return _feature_maps(self._call(self._get_feature_maps, request, timeout_s))

    def wait_until_serving(self, within_s: float) -> Model:
        """Wait for a server that has a model; raises what it last said when that takes more than `within_s` seconds."""
        give_up = time.monotonic() + within_s
        while True:
            try:
                return self.model(timeout_s=max(_WAIT_S, give_up - time.monotonic()))
            except (UnavailableError, DeadlineError):
                if time.monotonic() > give_up:
                    raise
                time.sleep(_WAIT_S)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, method: Any, request: Message, timeout_s: float | None) -> Any:
        try:
            return method(request, timeout=self._timeout_s if timeout_s is None else timeout_s)
        except grpc.RpcError as error:
            raise _error(error) from error


class AsyncDigitClient:
    """The same for asyncio; to be used in one event loop."""

    def __init__(self, address: str, *, timeout_s: float = TIMEOUT_S, credentials: Credentials | None = None) -> None:
        self._timeout_s = timeout_s
        self._channel = _connect(grpc.aio, address, credentials)
        self._classify = _method(self._channel, "Classify", ClassifyRequest, ClassifyResponse)
        self._get_model = _method(self._channel, "GetModel", GetModelRequest, GetModelResponse)
        self._get_feature_maps = _method(self._channel, "GetFeatureMaps", GetFeatureMapsRequest, GetFeatureMapsResponse)

    async def classify(
        self, images: ArrayLike, *, model_version: int | None = None, timeout_s: float | None = None
    ) -> Classifications:
        """Classify uint8 images, (image, row, column) or (image, row, column, 3), or one grey image (row, column).

        0 is background, 255 ink; three bytes a pixel are red, green, blue. One colour image is a batch of one,
        `image[np.newaxis]`: with three dimensions it would be read as grey images.
        `model_version` names a version that the server has loaded; None takes the current one.
        """
        request = _pixels_request(images, model_version)
        return _classifications(await self._call(self._classify, request, timeout_s))

    async def classify_png(
        self, files: Sequence[bytes], *, model_version: int | None = None, timeout_s: float | None = None
    ) -> Classifications:
        """Classify the contents of PNG files, each of the model's size."""
        request = ClassifyRequest(encoded_images=files, model_version=model_version)
        return _classifications(await self._call(self._classify, request, timeout_s))

    async def classify_photos(
        self, files: Sequence[bytes], *, model_version: int | None = None, timeout_s: float | None = None
    ) -> Classifications:
        """Classify the contents of PNG, JPEG or WebP files of any size, each a photo or a drawing of one digit.

        The server makes an image of each, as MNIST was made; `images` of the answer holds them.
        """
        request = ClassifyRequest(photos=files, model_version=model_version)
        return _classifications(await self._call(self._classify, request, timeout_s))

    async def model(self, *, model_version: int | None = None, timeout_s: float | None = None) -> Model:
        """Describe the model version that answers now, or the one that `model_version` names."""
        return _model(await self._call(self._get_model, GetModelRequest(model_version=model_version), timeout_s))

    async def feature_maps(
        self, image: ArrayLike, *, model_version: int | None = None, timeout_s: float | None = None
    ) -> FeatureMaps:
        """Show what each layer makes of one uint8 image, (row, column) or (row, column, 3); for people who look."""
        request = _feature_maps_request(image, model_version)
        return _feature_maps(await self._call(self._get_feature_maps, request, timeout_s))

    async def wait_until_serving(self, within_s: float) -> Model:
        """Wait for a server that has a model; raises what it last said when that takes more than `within_s` seconds."""
        give_up = time.monotonic() + within_s
        while True:
            try:
                return await self.model(timeout_s=max(_WAIT_S, give_up - time.monotonic()))
            except (UnavailableError, DeadlineError):
                if time.monotonic() > give_up:
                    raise
                await asyncio.sleep(_WAIT_S)

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _call(self, method: Any, request: Message, timeout_s: float | None) -> Any:
        try:
            return await method(request, timeout=self._timeout_s if timeout_s is None else timeout_s)
        except grpc.aio.AioRpcError as error:
            raise _error(error) from error


def _connect(library: Any, address: str, credentials: Credentials | None) -> Any:
    """A channel of grpc, or of grpc.aio."""
    options = [*_OPTIONS, *without_proxy(address)]
    if credentials:
        return library.secure_channel(address, credentials, options=options)
    return library.insecure_channel(address, options=options)


def _method(channel: Any, name: str, request: type[Request], response: type[Response]) -> Any:
    return channel.unary_unary(
        f"{_SERVICE}/{name}", request_serializer=request.SerializeToString, response_deserializer=response.FromString
    )


def _pixels_request(images: ArrayLike, model_version: int | None) -> ClassifyRequest:
    pixels = np.asarray(images)
    is_colour = pixels.ndim == 4 and pixels.shape[3] == 3
    if pixels.dtype != np.uint8 or not (is_colour or pixels.ndim in (2, 3)):
        raise ValueError(
            f"images: came {pixels.dtype} of shape {pixels.shape}, expected uint8 (image, row, column), or "
            "(image, row, column, 3) for colour, [0, 255]"
        )
    image_count = 1 if pixels.ndim == 2 else len(pixels)
    return ClassifyRequest(image_count=image_count, pixels=pixels.tobytes(), model_version=model_version)


def _classifications(response: ClassifyResponse) -> Classifications:
    return Classifications(
        digits=np.array(response.digits, np.int32),
        probabilities=np.array(response.probabilities, np.float32).reshape(len(response.digits), -1),
        model_name=response.model_name,
        model_version=response.model_version,
        provider=response.provider,
        images=_images(response),
    )


def _feature_maps_request(image: ArrayLike, model_version: int | None) -> GetFeatureMapsRequest:
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or pixels.shape[2:] == (3,)):
        raise ValueError(
            f"image: came {pixels.dtype} of shape {pixels.shape}, expected one uint8 image, (row, column), or "
            "(row, column, 3) for colour, [0, 255]"
        )
    return GetFeatureMapsRequest(pixels=pixels.tobytes(), model_version=model_version)


def _feature_maps(response: GetFeatureMapsResponse) -> FeatureMaps:
    return FeatureMaps(
        layers={layer.name: _maps(layer) for layer in response.layers},
        model_name=response.model_name,
        model_version=response.model_version,
        provider=response.provider,
    )


def _maps(layer: digits_pb2.FeatureMaps) -> NDArray[np.float32]:
    shape = (layer.feature_count, layer.height, layer.width)
    shares = np.frombuffer(layer.intensities, np.uint8).reshape(shape) / 255  # float64, [0, 1]
    return (layer.minimum + shares * (layer.maximum - layer.minimum)).astype(np.float32)


def _images(response: ClassifyResponse) -> NDArray[np.uint8] | None:
    """The response's pixels, which only a model of square grey images gives: a photo is prepared for no other."""
    if not response.pixels:
        return None
    side = math.isqrt(len(response.pixels) // len(response.digits))
    return np.frombuffer(response.pixels, np.uint8).reshape(len(response.digits), side, side)


def _model(response: GetModelResponse) -> Model:
    return Model(
        name=response.model_name,
        version=response.model_version,
        sha256=response.model_sha256,
        provider=response.provider,
        image_height=response.image_height,
        image_width=response.image_width,
        image_channels=response.image_channels or 1,  # a server older than this field knows grey only
        labels=tuple(response.labels),
        max_image_count=response.max_image_count,
        accuracy=response.accuracy,
        refusal=response.refusal.reason,
        loaded_versions=tuple(response.loaded_versions),
    )


def _error(error: Any) -> ServingError:
    """The server's own error where it sent one, else one made of the transport's code and words."""
    code, message = error.code(), error.details() or ""
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE in message:
        return InvalidRequestError(f"the request: {message}: send fewer images a call")
    status = status_pb2.Status(code=code.value[0], message=message)
    for key, value in error.trailing_metadata() or ():
        if key == _STATUS_DETAILS:
            status = status_pb2.Status.FromString(value)
    return from_status(status)
