import datetime

from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ClassifyRequest(_message.Message):
    __slots__ = ("image_count", "pixels", "encoded_images", "model_version", "photos")
    IMAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    ENCODED_IMAGES_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    PHOTOS_FIELD_NUMBER: _ClassVar[int]
    image_count: int
    pixels: bytes
    encoded_images: _containers.RepeatedScalarFieldContainer[bytes]
    model_version: int
    photos: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, image_count: _Optional[int] = ..., pixels: _Optional[bytes] = ..., encoded_images: _Optional[_Iterable[bytes]] = ..., model_version: _Optional[int] = ..., photos: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ClassifyResponse(_message.Message):
    __slots__ = ("digits", "probabilities", "model_name", "model_version", "provider", "pixels")
    DIGITS_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    digits: _containers.RepeatedScalarFieldContainer[int]
    probabilities: _containers.RepeatedScalarFieldContainer[float]
    model_name: str
    model_version: int
    provider: str
    pixels: bytes
    def __init__(self, digits: _Optional[_Iterable[int]] = ..., probabilities: _Optional[_Iterable[float]] = ..., model_name: _Optional[str] = ..., model_version: _Optional[int] = ..., provider: _Optional[str] = ..., pixels: _Optional[bytes] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("model_version",)
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    model_version: int
    def __init__(self, model_version: _Optional[int] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model_name", "model_version", "model_sha256", "provider", "image_height", "image_width", "labels", "max_image_count", "accuracy", "created", "loaded", "refusal", "loaded_versions", "image_channels")
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_SHA256_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    IMAGE_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_WIDTH_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    MAX_IMAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    LOADED_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    LOADED_VERSIONS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_CHANNELS_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    model_version: int
    model_sha256: str
    provider: str
    image_height: int
    image_width: int
    labels: _containers.RepeatedScalarFieldContainer[str]
    max_image_count: int
    accuracy: float
    created: _timestamp_pb2.Timestamp
    loaded: _timestamp_pb2.Timestamp
    refusal: Refusal
    loaded_versions: _containers.RepeatedScalarFieldContainer[int]
    image_channels: int
    def __init__(self, model_name: _Optional[str] = ..., model_version: _Optional[int] = ..., model_sha256: _Optional[str] = ..., provider: _Optional[str] = ..., image_height: _Optional[int] = ..., image_width: _Optional[int] = ..., labels: _Optional[_Iterable[str]] = ..., max_image_count: _Optional[int] = ..., accuracy: _Optional[float] = ..., created: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., loaded: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., loaded_versions: _Optional[_Iterable[int]] = ..., image_channels: _Optional[int] = ...) -> None: ...

class GetFeatureMapsRequest(_message.Message):
    __slots__ = ("pixels", "model_version")
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    pixels: bytes
    model_version: int
    def __init__(self, pixels: _Optional[bytes] = ..., model_version: _Optional[int] = ...) -> None: ...

class GetFeatureMapsResponse(_message.Message):
    __slots__ = ("layers", "model_name", "model_version", "provider")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedCompositeFieldContainer[FeatureMaps]
    model_name: str
    model_version: int
    provider: str
    def __init__(self, layers: _Optional[_Iterable[_Union[FeatureMaps, _Mapping]]] = ..., model_name: _Optional[str] = ..., model_version: _Optional[int] = ..., provider: _Optional[str] = ...) -> None: ...

class FeatureMaps(_message.Message):
    __slots__ = ("name", "feature_count", "height", "width", "intensities", "minimum", "maximum")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FEATURE_COUNT_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    INTENSITIES_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    name: str
    feature_count: int
    height: int
    width: int
    intensities: bytes
    minimum: float
    maximum: float
    def __init__(self, name: _Optional[str] = ..., feature_count: _Optional[int] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., intensities: _Optional[bytes] = ..., minimum: _Optional[float] = ..., maximum: _Optional[float] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("model_version", "generation", "reason")
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    model_version: int
    generation: int
    reason: str
    def __init__(self, model_version: _Optional[int] = ..., generation: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...
