"""What a transport gives a service, and what every call goes through on our side of that seam.

A transport builds a `Call`, runs `Calls.answer` in a task and cancels that task when the caller goes away or its
deadline passes. It hands over the bytes of the request and gets those of the response, or a `ServingError`.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn, Protocol
from uuid import uuid4

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from serving.errors import (
    CANCELLED,
    OK,
    STATUSES,
    DeadlineError,
    DrainingError,
    InternalError,
    InvalidRequestError,
    ServingError,
    Status,
    internal_error,
)

DRAINING_RETRY_S = 1.0

log = logging.getLogger(__name__)


class Call:
    """One call, whatever brought it; a transport derives its own. What is rarely asked for is worked out when asked."""

    def __init__(self, deadline_in_s: float | None = None) -> None:
        self.arrived = time.monotonic()
        """When it came, seconds on time.monotonic."""
        self.deadline = None if deadline_in_s is None else self.arrived + deadline_in_s
        """When the caller stops waiting, seconds on time.monotonic; None for never."""
        self.trailers: list[tuple[str, str]] = []
        """What is sent beside the answer; a service may add to it."""
        self.facts: dict[str, int] = {}
        """What a trace tells of the call; a service may add numbers to it, never content."""
        self.trace_id = ""
        """Names the trace that the call is part of, 32 hexadecimal digits; empty where nobody traces it."""

    @property
    def peer(self) -> str:
        """Where it came from, such as "ipv4:127.0.0.1:50000"."""
        raise NotImplementedError

    @property
    def metadata(self) -> Mapping[str, str | bytes]:
        """What the caller sent beside the request."""
        raise NotImplementedError

    @cached_property
    def request_id(self) -> str:
        """Names the call in logs and in internal errors."""
        return uuid4().hex


Method = Callable[[Any, Call], Awaitable[Message | bytes]]
"""Answers a request with a message, or with the bytes of one."""


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

    @cached_property
    def path(self) -> str:
        """The full method, such as "/digits.v1.DigitService/Classify"."""
        return f"/{self.service}/{self.name}"


class Transport(Protocol):
    """Brings calls, and takes the answers away."""

    @property
    def calls_on_their_way(self) -> int:
        """Those that are known to come, or are here and not answered yet."""

    async def start(self, host: str, port: int) -> int:
        """Listen on `host`, a name or an address of this machine, and return the port; raises OSError."""

    async def set_serving(self, serving: bool) -> None:
        """What health says, for the server as a whole ("") and for every service."""

    async def drain(self) -> None:
        """Tell callers to go elsewhere; calls go on."""

    async def stop(self, grace_s: float) -> None:
        """Close the port, give what is under way `grace_s` seconds, then cancel it."""

    async def exposition(self) -> str:
        """Figures of its own, in Prometheus' text format."""


Trace = Callable[[Rpc, Call], Callable[[Status], None]]
"""Is told that a call begins; what it returns is told how it ended."""


def rpcs(service: Service) -> list[Rpc]:
    """Every method of the service's descriptor, with what answers it."""
    descriptor = service.descriptor
    return [
        Rpc(descriptor.full_name, method.name, GetMessageClass(method.input_type), service.methods[method.name])
        for method in descriptor.methods
    ]


class Calls:
    """Lets calls in, counts those in flight and turns whatever goes wrong into an error that a caller may see."""

    def __init__(
        self,
        observe: Callable[[str, Status, float], None] = lambda _path, _status, _duration_s: None,
        trace: Trace | None = None,
    ) -> None:
        self._observe = observe
        self._trace = trace
        self._in_flight = 0
        self._draining = False
        self._finished = asyncio.Event()

    async def answer(self, rpc: Rpc, content: bytes, call: Call) -> bytes:
        """Answer the request in `content`; raises ServingError only (and CancelledError when the transport cancels)."""
        status = CANCELLED  # unless it ends otherwise
        end_trace = self._trace(rpc, call) if self._trace else None
        self._in_flight += 1
        try:
            if self._draining:
                _refuse_to_begin()
            response = await rpc.method(_parse(rpc, content), call)
            encoded = response if isinstance(response, bytes) else response.SerializeToString()
        except ServingError as error:
            status = STATUSES[type(error)]
            raise
        except asyncio.CancelledError:
            if call.deadline is not None and time.monotonic() >= call.deadline:
                status = STATUSES[DeadlineError]
            raise
        except Exception:
            status = STATUSES[InternalError]
            ids = {"request_id": call.request_id, "trace_id": call.trace_id}
            log.exception("%s failed, request id %s", rpc.path, call.request_id, extra=ids)
            raise internal_error(call.request_id) from None
        else:
            status = OK
            return encoded
        finally:
            self._in_flight -= 1
            if self._draining:
                self._notice_the_last()
            self._observe(rpc.path, status, time.monotonic() - call.arrived)
            if end_trace:
                end_trace(status)

    def drain(self) -> None:
        """From now on refuse new calls; those in flight go on."""
        self._draining = True
        self._notice_the_last()

    async def finish(self, within_s: float) -> int:
        """After `drain`: wait until no call is in flight, for at most `within_s`; return how many still are."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._finished.wait(), within_s)
        return self._in_flight

    def _notice_the_last(self) -> None:
        if self._draining and not self._in_flight:
            self._finished.set()


def _refuse_to_begin() -> NoReturn:
    raise DrainingError("the server is shutting down; call another one", retry_after_s=DRAINING_RETRY_S)


def _parse(rpc: Rpc, content: bytes) -> Message:
    try:
        return rpc.request_type.FromString(content)
    except DecodeError as error:
        name = rpc.request_type.DESCRIPTOR.full_name
        raise InvalidRequestError(f"the request: came {len(content)} bytes that are no {name}") from error
