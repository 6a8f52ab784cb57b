"""A unary call as it arrived, whatever protocol carried it, and the methods that there are."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.rpc import code_pb2, status_pb2

Trailers = Sequence[tuple[str, str]]


class Role(Enum):
    """What a caller needs to be allowed to use a route."""

    PUBLIC = "public"
    CLASSIFY = "classify"
    METRICS = "metrics"
    ADMIN = "admin"


class Request:
    """One call, and the way to answer it: `respond` or `reject`, once. Each protocol derives its own."""

    arrived: float
    """When its bytes arrived, seconds on time.monotonic."""
    deadline: float | None
    """When the caller stops waiting, seconds on time.monotonic; None for never."""
    on_lost: Callable[[], object]
    """Called if the caller goes away before it was answered."""

    @property
    def peer(self) -> str:
        """The caller's address, such as "ipv4:127.0.0.1:50000"."""
        raise NotImplementedError

    @property
    def caller(self) -> str:
        """Who calls, as far as it was verified; else empty."""
        raise NotImplementedError

    @property
    def metadata(self) -> Mapping[str, str | bytes]:
        """Sent beside the request: keys in lower case, values of bytes where the key ends in "-bin"."""
        raise NotImplementedError

    def respond(self, content: bytes, trailers: Trailers) -> None:
        """Send the bytes of the response."""
        raise NotImplementedError

    def reject(self, status: status_pb2.Status, trailers: Trailers) -> None:
        """Send an error."""
        raise NotImplementedError


@dataclass(frozen=True)
class Unary:
    """A method that takes one message and gives one."""

    path: str
    """Such as "/digits.v1.DigitService/Classify"."""
    descriptor: MethodDescriptor
    request_type: type[Message]
    response_type: type[Message]
    begin: Callable[[bytes, Request], None]
    """Answers the bytes of a request, now or later; raises nothing."""
    role: Role


@dataclass(frozen=True)
class Stream:
    """A method that takes messages and gives messages."""

    path: str
    answer: Callable[[AsyncIterator[bytes], Request], AsyncGenerator[bytes, None]]
    """The responses to requests, as bytes; raises RpcError."""
    role: Role


class RpcError(Exception):
    """A call ends with a status other than OK."""

    def __init__(self, code: int, message: str, *, status: status_pb2.Status | None = None) -> None:
        super().__init__(message)
        self.status = status or status_pb2.Status(code=code, message=message)


HTTP_STATUS = {
    code_pb2.OK: 200,
    code_pb2.CANCELLED: 499,
    code_pb2.UNKNOWN: 500,
    code_pb2.INVALID_ARGUMENT: 400,
    code_pb2.DEADLINE_EXCEEDED: 504,
    code_pb2.NOT_FOUND: 404,
    code_pb2.ALREADY_EXISTS: 409,
    code_pb2.PERMISSION_DENIED: 403,
    code_pb2.RESOURCE_EXHAUSTED: 429,
    code_pb2.FAILED_PRECONDITION: 400,
    code_pb2.ABORTED: 409,
    code_pb2.OUT_OF_RANGE: 400,
    code_pb2.UNIMPLEMENTED: 501,
    code_pb2.INTERNAL: 500,
    code_pb2.UNAVAILABLE: 503,
    code_pb2.DATA_LOSS: 500,
    code_pb2.UNAUTHENTICATED: 401,
}
"""The HTTP status of each code (google/rpc/code.proto)."""
