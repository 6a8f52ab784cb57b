"""What a transport gives a service, and what every call goes through on our side of that seam.

A transport builds a `Call`, runs `Calls.answer` in a task and cancels that task when the caller goes away or its
deadline passes. It hands over the bytes of the request and gets those of the response, or a `ServingError`.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import uuid4

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from serving.errors import DrainingError, InvalidRequestError, ServingError, internal_error

DRAINING_RETRY_S = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Call:
    """One call, whatever brought it."""

    peer: str
    """Where it came from, such as "ipv4:127.0.0.1:50000"."""
    deadline: float | None = None
    """When the caller stops waiting, seconds on time.monotonic; None for never."""
    metadata: Mapping[str, str | bytes] = field(default_factory=dict)
    """What the caller sent beside the request."""
    trailers: dict[str, str] = field(default_factory=dict)
    """What is sent beside the answer; a service may add to it."""
    request_id: str = field(default_factory=lambda: uuid4().hex)
    """Names the call in logs and in internal errors."""


Method = Callable[[Any, Call], Awaitable[Message]]


class Service(Protocol):
    """Methods of one service of our protos."""

    @property
    def descriptor(self) -> ServiceDescriptor:
        """The service in its .proto file; gives names and message types."""

    @property
    def methods(self) -> Mapping[str, Method]:
        """Every method by its name in the .proto file."""


@dataclass(frozen=True)
class Rpc:
    """One method as a transport sees it."""

    service: str
    """The full name of its service, such as "digits.v1.DigitService"."""
    name: str
    request_type: type[Message]
    method: Method

    @property
    def path(self) -> str:
        """The full method, such as "/digits.v1.DigitService/Classify"."""
        return f"/{self.service}/{self.name}"


def rpcs(service: Service) -> list[Rpc]:
    """Every method of the service's descriptor, with what answers it."""
    descriptor = service.descriptor
    return [
        Rpc(descriptor.full_name, method.name, GetMessageClass(method.input_type), service.methods[method.name])
        for method in descriptor.methods
    ]


class Calls:
    """Lets calls in, counts those in flight and turns whatever goes wrong into an error that a caller may see."""

    def __init__(self) -> None:
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False

    async def answer(self, rpc: Rpc, content: bytes, call: Call) -> bytes:
        """Answer the request in `content`; raises ServingError only (and CancelledError when the transport cancels)."""
        if self._draining:
            raise DrainingError("the server is shutting down; call another one", retry_after_s=DRAINING_RETRY_S)
        with self._counted():
            request = _parse(rpc, content)
            try:
                response = await rpc.method(request, call)
                return response.SerializeToString()
            except ServingError:
                raise
            except Exception:
                log.exception("%s failed, request id %s", rpc.path, call.request_id)
                raise internal_error(call.request_id) from None

    def drain(self) -> None:
        """From now on refuse new calls; those in flight go on."""
        self._draining = True

    async def finish(self, within_s: float) -> int:
        """Wait until no call is in flight, for at most `within_s`; return how many still are."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), within_s)
        return self._in_flight

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._in_flight += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()


def _parse(rpc: Rpc, content: bytes) -> Message:
    try:
        return rpc.request_type.FromString(content)
    except DecodeError as error:
        name = rpc.request_type.DESCRIPTOR.full_name
        raise InvalidRequestError(f"the request: came {len(content)} bytes that are no {name}") from error
