import datetime

from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Manifest(_message.Message):
    __slots__ = ("schema", "model_name", "version", "parent_version", "files", "signature", "labels", "opset", "ir_version", "known_answers", "evaluation", "data", "config", "seed", "device", "code_revision", "packages", "created", "verdicts", "validation", "forced", "fingerprint", "sources_sha256", "temperature")
    class PackagesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SCHEMA_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PARENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    OPSET_FIELD_NUMBER: _ClassVar[int]
    IR_VERSION_FIELD_NUMBER: _ClassVar[int]
    KNOWN_ANSWERS_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    CODE_REVISION_FIELD_NUMBER: _ClassVar[int]
    PACKAGES_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_FIELD_NUMBER: _ClassVar[int]
    FORCED_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    SOURCES_SHA256_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    schema: str
    model_name: str
    version: int
    parent_version: int
    files: _containers.RepeatedCompositeFieldContainer[File]
    signature: Signature
    labels: _containers.RepeatedScalarFieldContainer[str]
    opset: int
    ir_version: int
    known_answers: KnownAnswers
    evaluation: Evaluation
    data: Data
    config: _struct_pb2.Struct
    seed: int
    device: str
    code_revision: str
    packages: _containers.ScalarMap[str, str]
    created: _timestamp_pb2.Timestamp
    verdicts: _containers.RepeatedCompositeFieldContainer[Verdict]
    validation: Evaluation
    forced: bool
    fingerprint: str
    sources_sha256: str
    temperature: float
    def __init__(self, schema: _Optional[str] = ..., model_name: _Optional[str] = ..., version: _Optional[int] = ..., parent_version: _Optional[int] = ..., files: _Optional[_Iterable[_Union[File, _Mapping]]] = ..., signature: _Optional[_Union[Signature, _Mapping]] = ..., labels: _Optional[_Iterable[str]] = ..., opset: _Optional[int] = ..., ir_version: _Optional[int] = ..., known_answers: _Optional[_Union[KnownAnswers, _Mapping]] = ..., evaluation: _Optional[_Union[Evaluation, _Mapping]] = ..., data: _Optional[_Union[Data, _Mapping]] = ..., config: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., seed: _Optional[int] = ..., device: _Optional[str] = ..., code_revision: _Optional[str] = ..., packages: _Optional[_Mapping[str, str]] = ..., created: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., verdicts: _Optional[_Iterable[_Union[Verdict, _Mapping]]] = ..., validation: _Optional[_Union[Evaluation, _Mapping]] = ..., forced: bool = ..., fingerprint: _Optional[str] = ..., sources_sha256: _Optional[str] = ..., temperature: _Optional[float] = ...) -> None: ...

class File(_message.Message):
    __slots__ = ("path", "sha256", "size_bytes")
    PATH_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    path: str
    sha256: str
    size_bytes: int
    def __init__(self, path: _Optional[str] = ..., sha256: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class Signature(_message.Message):
    __slots__ = ("inputs", "outputs")
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    inputs: _containers.RepeatedCompositeFieldContainer[Tensor]
    outputs: _containers.RepeatedCompositeFieldContainer[Tensor]
    def __init__(self, inputs: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ...) -> None: ...

class Tensor(_message.Message):
    __slots__ = ("name", "dtype", "shape")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class KnownAnswers(_message.Message):
    __slots__ = ("image_count", "logits_tolerance", "probabilities_tolerance")
    IMAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    LOGITS_TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_TOLERANCE_FIELD_NUMBER: _ClassVar[int]
    image_count: int
    logits_tolerance: float
    probabilities_tolerance: float
    def __init__(self, image_count: _Optional[int] = ..., logits_tolerance: _Optional[float] = ..., probabilities_tolerance: _Optional[float] = ...) -> None: ...

class Evaluation(_message.Message):
    __slots__ = ("train_loss", "test_loss", "error_rate", "accuracy", "image_count", "class_accuracies", "confusion", "calibration_error")
    TRAIN_LOSS_FIELD_NUMBER: _ClassVar[int]
    TEST_LOSS_FIELD_NUMBER: _ClassVar[int]
    ERROR_RATE_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    IMAGE_COUNT_FIELD_NUMBER: _ClassVar[int]
    CLASS_ACCURACIES_FIELD_NUMBER: _ClassVar[int]
    CONFUSION_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_ERROR_FIELD_NUMBER: _ClassVar[int]
    train_loss: float
    test_loss: float
    error_rate: float
    accuracy: float
    image_count: int
    class_accuracies: _containers.RepeatedScalarFieldContainer[float]
    confusion: _containers.RepeatedScalarFieldContainer[int]
    calibration_error: float
    def __init__(self, train_loss: _Optional[float] = ..., test_loss: _Optional[float] = ..., error_rate: _Optional[float] = ..., accuracy: _Optional[float] = ..., image_count: _Optional[int] = ..., class_accuracies: _Optional[_Iterable[float]] = ..., confusion: _Optional[_Iterable[int]] = ..., calibration_error: _Optional[float] = ...) -> None: ...

class Data(_message.Message):
    __slots__ = ("name", "source", "payload_sha256", "train_count", "test_count", "mean", "std", "validation_count", "means", "stds")
    class PayloadSha256Entry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_SHA256_FIELD_NUMBER: _ClassVar[int]
    TRAIN_COUNT_FIELD_NUMBER: _ClassVar[int]
    TEST_COUNT_FIELD_NUMBER: _ClassVar[int]
    MEAN_FIELD_NUMBER: _ClassVar[int]
    STD_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_COUNT_FIELD_NUMBER: _ClassVar[int]
    MEANS_FIELD_NUMBER: _ClassVar[int]
    STDS_FIELD_NUMBER: _ClassVar[int]
    name: str
    source: str
    payload_sha256: _containers.ScalarMap[str, str]
    train_count: int
    test_count: int
    mean: float
    std: float
    validation_count: int
    means: _containers.RepeatedScalarFieldContainer[float]
    stds: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, name: _Optional[str] = ..., source: _Optional[str] = ..., payload_sha256: _Optional[_Mapping[str, str]] = ..., train_count: _Optional[int] = ..., test_count: _Optional[int] = ..., mean: _Optional[float] = ..., std: _Optional[float] = ..., validation_count: _Optional[int] = ..., means: _Optional[_Iterable[float]] = ..., stds: _Optional[_Iterable[float]] = ...) -> None: ...

class Verdict(_message.Message):
    __slots__ = ("gate", "passed", "detail", "abstained", "skipped")
    GATE_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    ABSTAINED_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FIELD_NUMBER: _ClassVar[int]
    gate: str
    passed: bool
    detail: str
    abstained: bool
    skipped: bool
    def __init__(self, gate: _Optional[str] = ..., passed: bool = ..., detail: _Optional[str] = ..., abstained: bool = ..., skipped: bool = ...) -> None: ...

class Current(_message.Message):
    __slots__ = ("version", "sha256", "previous", "generation")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    version: int
    sha256: str
    previous: int
    generation: int
    def __init__(self, version: _Optional[int] = ..., sha256: _Optional[str] = ..., previous: _Optional[int] = ..., generation: _Optional[int] = ...) -> None: ...

class HistoryEntry(_message.Message):
    __slots__ = ("event", "version", "generation", "time", "sha256", "reason", "fingerprint")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    event: str
    version: int
    generation: int
    time: _timestamp_pb2.Timestamp
    sha256: str
    reason: str
    fingerprint: str
    def __init__(self, event: _Optional[str] = ..., version: _Optional[int] = ..., generation: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., sha256: _Optional[str] = ..., reason: _Optional[str] = ..., fingerprint: _Optional[str] = ...) -> None: ...
