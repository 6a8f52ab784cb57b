"""Every error of serving, and the one table that gives a caller's errors their status code.

Exception
├── ServingError                what a caller sees; the client raises the same classes
│   ├── InvalidRequestError     the request itself is wrong
│   ├── UnknownVersionError     the version that the request names is not loaded
│   ├── NoFeatureMapsError      the version has no feature maps to show
│   ├── UnavailableError        try again, here or elsewhere
│   │   ├── NoModelError        no version is loaded yet
│   │   └── DrainingError       the server is shutting down
│   ├── OverloadedError         no room, or no time, for this call
│   ├── DeviceMemoryError       no memory to run the model on so many images
│   ├── DeadlineError           the deadline passed before there was an answer
│   ├── UnsupportedError        the server has no such method
│   └── InternalError           anything else; says nothing but a request id
├── VersionRefusedError         a version directory that must not be served
│   ├── VersionNotReadyError    one that cannot be loaded now, and perhaps a moment later
│   ├── VersionHungError        one that exceeded the time limit for loading
│   └── HistoryError            HISTORY.jsonl does not tell what a version's bytes are
│       └── HistoryNotReadyError  now, and perhaps a moment later
├── ProviderError               the execution provider asked for cannot run here
├── WorkerError                 a server process of several cannot start, or had to be killed
└── SettingsError               a setting is unknown or out of range
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

DOMAIN = "digits.v1"

M = TypeVar("M", bound=Message)


class ServingError(Exception):
    """An error that a caller sees.

    `field` names the request field at fault, `retry_after_s` says when trying again makes sense (seconds), `metadata`
    repeats the values of the message for programs (AIP-193).
    """

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        retry_after_s: float | None = None,
        metadata: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_after_s = retry_after_s
        self.metadata = {key: str(value) for key, value in (metadata or {}).items()}


class InvalidRequestError(ServingError):
    """The request itself is wrong; sending it again cannot help."""


class UnknownVersionError(ServingError):
    """The version that the request names is not loaded here; the message says which ones are."""


class NoFeatureMapsError(ServingError):
    """The version was published without feature maps, or onnxruntime cannot load them here; the message says which."""


class UnavailableError(ServingError):
    """The server cannot answer now; another one, or this one later, can."""


class NoModelError(UnavailableError):
    """No model version is loaded yet."""


class DrainingError(UnavailableError):
    """The server is shutting down and takes no new calls."""


class OverloadedError(ServingError):
    """The queue is full, or the deadline cannot be met."""


class DeviceMemoryError(ServingError):
    """What runs the model has no memory left for so many images at once: fewer may do, or these a little later."""


class DeadlineError(ServingError):
    """The deadline passed before there was an answer."""


class UnsupportedError(ServingError):
    """The server has no such method."""


class InternalError(ServingError):
    """The server failed; its log has the cause under the request id."""


class VersionRefusedError(Exception):
    """A version directory, or CURRENT, that must not be served; the message says why."""


class VersionNotReadyError(VersionRefusedError):
    """It cannot be loaded now, for a reason that may pass: a missing file, an error of the disk, memory."""


class VersionHungError(VersionRefusedError):
    """It took longer to load than the time limit allows; `is_over` says whether it may be tried again by now."""

    def __init__(self, message: str, is_over: Callable[[], bool] = bool) -> None:
        super().__init__(message)
        self.is_over = is_over


class HistoryError(VersionRefusedError):
    """HISTORY.jsonl does not tell what a version's bytes are: one that is loaded already stays."""


class HistoryNotReadyError(HistoryError, VersionNotReadyError):
    """HISTORY.jsonl cannot be read now."""


class ProviderError(Exception):
    """The execution provider asked for cannot run here."""


class WorkerError(Exception):
    """A server process of several cannot start, or had to be killed; the message says which and why."""


class SettingsError(Exception):
    """A setting is unknown, of the wrong type or out of range; the message lists every fault."""


class Status(NamedTuple):
    """How a call ends, on the wire."""

    code: int
    """A google.rpc.Code, which is also the gRPC status code."""
    reason: str = ""
    """ErrorInfo.reason: upper snake case, stable; empty where the call was not refused."""


OK = Status(code_pb2.OK)
CANCELLED = Status(code_pb2.CANCELLED)

STATUSES: Mapping[type[ServingError], Status] = {
    InvalidRequestError: Status(code_pb2.INVALID_ARGUMENT, "INVALID_REQUEST"),
    UnknownVersionError: Status(code_pb2.NOT_FOUND, "UNKNOWN_VERSION"),
    NoFeatureMapsError: Status(code_pb2.NOT_FOUND, "NO_FEATURE_MAPS"),
    UnavailableError: Status(code_pb2.UNAVAILABLE, "UNAVAILABLE"),
    NoModelError: Status(code_pb2.UNAVAILABLE, "NO_MODEL"),
    DrainingError: Status(code_pb2.UNAVAILABLE, "DRAINING"),
    OverloadedError: Status(code_pb2.RESOURCE_EXHAUSTED, "OVERLOADED"),
    DeviceMemoryError: Status(code_pb2.RESOURCE_EXHAUSTED, "OUT_OF_MEMORY"),
    DeadlineError: Status(code_pb2.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
    UnsupportedError: Status(code_pb2.UNIMPLEMENTED, "UNIMPLEMENTED"),
    InternalError: Status(code_pb2.INTERNAL, "INTERNAL"),
}


def internal_error(request_id: str) -> InternalError:
    """The fixed sentence that stands for every unexpected exception: its own text never leaves the server."""
    message = f"the server failed on this call; its log has the cause under request id {request_id}"
    return InternalError(message, metadata={"request_id": request_id})


def to_status(error: ServingError) -> status_pb2.Status:
    """The google.rpc.Status that tells a caller of `error`."""
    code, reason = STATUSES[type(error)]
    status = status_pb2.Status(code=code, message=error.message)
    _pack(status, error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=error.metadata))
    if error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.message)
        _pack(status, error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after_s is not None:
        delay = Duration()
        delay.FromMilliseconds(round(error.retry_after_s * 1000))
        _pack(status, error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def from_status(status: status_pb2.Status) -> ServingError:
    """The error that `status` tells of; the inverse of `to_status`."""
    info = _unpack(status, error_details_pb2.ErrorInfo())
    bad_request = _unpack(status, error_details_pb2.BadRequest())
    retry = _unpack(status, error_details_pb2.RetryInfo())
    return _class_of(status.code, info.reason)(
        status.message,
        field=bad_request.field_violations[0].field if bad_request.field_violations else "",
        retry_after_s=retry.retry_delay.ToMilliseconds() / 1000 if retry.HasField("retry_delay") else None,
        metadata=dict(info.metadata),
    )


def _class_of(code: int, reason: str) -> type[ServingError]:
    """By reason where the server is ours, by code where something else answered (a proxy, the transport itself)."""
    by_reason = {status.reason: error for error, status in STATUSES.items()}
    by_code = {status.code: error for error, status in reversed(list(STATUSES.items()))}
    # What nobody here cancelled was cancelled by a server that went away with the call still in its socket.
    by_code[code_pb2.CANCELLED] = UnavailableError
    return by_reason.get(reason) or by_code.get(code) or ServingError


def _pack(status: status_pb2.Status, detail: Message) -> None:
    packed = Any()
    packed.Pack(detail)
    status.details.append(packed)


def _unpack(status: status_pb2.Status, detail: M) -> M:
    for packed in status.details:
        if packed.Unpack(detail):
            break
    return detail
