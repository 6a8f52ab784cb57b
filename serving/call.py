"""What a transport gives a service, and what every call goes through on our side of that seam.

A transport makes a `Call` and hands it to `Dispatcher.begin` with the bytes of the request. The call ends once: with
the bytes of a response, with a `ServingError`, or without either when its caller has gone.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol
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
    InvalidRequestError,
    ServingError,
    Status,
    internal_error,
)

DRAINING_RETRY_S = 1.0

TIMING = "serving-timing"
"""The trailer that says where the time of a call went."""

DEADLINE_INTERVAL_S = 0.005
"""How often the deadlines of open calls are checked, while there are fewer than a thousand; else less often."""

log = logging.getLogger(__name__)


class Call:
    """One call. A transport derives its own, which knows how to send what it ends with."""

    rpc: "Rpc"
    """The method that is called; known once the call has begun."""

    def __init__(self, deadline_in_s: float | None = None) -> None:
        self.arrived = time.monotonic()
        """When it arrived, seconds on time.monotonic."""
        self.queued = self.arrived
        """When it joined the queue for a run of the model."""
        self.deadline = None if deadline_in_s is None else self.arrived + deadline_in_s
        """When the caller stops waiting, seconds on time.monotonic; None for never."""
        self.trailers: list[tuple[str, str]] = []
        """Sent with the response; a service may add to it."""
        self.facts: dict[str, int] = {}
        """Attributes of the call's span; a service may add numbers to it, never content."""
        self.trace_id = ""
        """The trace that the call is part of, 32 hexadecimal digits; empty unless it is traced."""
        self.suffix = b""
        """Appended to the response: what a service knows of this call alone."""
        self.is_over = False
        """Whether it has ended."""
        self.on_failure: Callable[[], object] | None = None
        """Called when the call ends without a response, to stop the work on it."""
        self.ended: Callable[[Call, Status], None] = lambda _call, _status: None
        """Called when it has ended."""

    @property
    def peer(self) -> str:
        """The caller's address, such as "ipv4:127.0.0.1:50000"."""
        raise NotImplementedError

    @property
    def metadata(self) -> Mapping[str, str | bytes]:
        """The request's metadata."""
        raise NotImplementedError

    def send(self, content: bytes) -> None:
        """Send the response and the trailers."""
        raise NotImplementedError

    def reject(self, error: ServingError) -> None:
        """Send an error and the trailers."""
        raise NotImplementedError

    @cached_property
    def request_id(self) -> str:
        """Identifies the call in logs and in internal errors."""
        return uuid4().hex

    def respond(self, content: bytes, ran: "Timed | None" = None) -> None:
        """End with a response; `ran` is the run of the model that it is from. Does nothing if the call has ended."""
        if not self.is_over:
            self.is_over = True
            self.on_failure = None
            if ran is not None:
                self.trailers.append((TIMING, ran.timing(self.arrived, self.queued)))
            self.send(content + self.suffix)
            self.ended(self, OK)

    def fail(self, error: BaseException) -> None:
        """End with an error; what is not a ServingError is logged and sent as INTERNAL, without its text."""
        if self.is_over:
            return
        if not isinstance(error, ServingError):
            ids = {"request_id": self.request_id, "trace_id": self.trace_id}
            log.error("%s failed, request id %s", self.rpc.path, self.request_id, exc_info=error, extra=ids)
            error = internal_error(self.request_id)
        self._stop(STATUSES[type(error)])
        self.reject(error)

    def abandon(self) -> None:
        """End without a word: the caller has gone, or has stopped waiting."""
        if not self.is_over:
            has_passed = self.deadline is not None and time.monotonic() >= self.deadline
            self._stop(STATUSES[DeadlineError] if has_passed else CANCELLED)

    def _stop(self, status: Status) -> None:
        self.is_over = True
        if self.on_failure:
            on_failure, self.on_failure = self.on_failure, None
            on_failure()
        self.ended(self, status)


class Timed(Protocol):
    """A run of the model."""

    def timing(self, arrived: float, queued: float) -> str:
        """Where the time of a call in it went that arrived and joined the queue then, as the trailer says it."""


class AwaitedCall(Call):
    """A call of a transport that awaits its end."""

    def __init__(self, deadline_in_s: float | None = None) -> None:
        super().__init__(deadline_in_s)
        self.response: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def send(self, content: bytes) -> None:
        """Return `content` to the transport."""
        if not self.response.done():
            self.response.set_result(content)

    def reject(self, error: ServingError) -> None:
        """Raise `error` in the transport."""
        if not self.response.done():
            self.response.set_exception(error)


Method = Callable[[Any, Call], Awaitable[Message | bytes | None] | None]
"""Answers a request with a message or the bytes of one; returns None where the call will be ended by someone else."""


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
"""Called when a call begins; what it returns is called with how it ended."""


def rpcs(service: Service) -> list[Rpc]:
    """Every method of the service's descriptor, with what answers it."""
    descriptor = service.descriptor
    return [
        Rpc(descriptor.full_name, method.name, GetMessageClass(method.input_type), service.methods[method.name])
        for method in descriptor.methods
    ]


class Dispatcher:
    """Begins calls, ends those whose deadline passes, and counts those in flight."""

    def __init__(
        self,
        observe: Callable[[str, Status, float], None] = lambda _path, _status, _duration_s: None,
        trace: Trace | None = None,
    ) -> None:
        self._observe = observe
        self._trace = trace
        self._open: set[Call] = set()
        self._checks_deadlines = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False
        self._finished = asyncio.Event()

    def begin(self, rpc: Rpc, content: bytes, call: Call) -> None:
        """Begin a call with the bytes of its request. Raises nothing: whatever goes wrong ends the call."""
        call.rpc = rpc
        call.ended = self._ended if self._trace is None else self._traced(rpc, call, self._trace)
        self._open.add(call)
        if call.deadline is not None:
            self._check_deadlines_later()
        try:
            self._check_that_it_may_begin()
            answer = rpc.method(_parse(rpc, content), call)
            if answer is not None:
                self._work_on(call, answer)
        except Exception as error:
            call.fail(error)

    async def answer(self, rpc: Rpc, content: bytes, call: AwaitedCall) -> bytes:
        """The response to a call; raises ServingError only (and CancelledError, which abandons the call)."""
        self.begin(rpc, content, call)
        try:
            return await call.response
        except asyncio.CancelledError:
            call.abandon()
            raise

    def drain(self) -> None:
        """From now on reject new calls; those in flight continue."""
        self._draining = True
        self._notice_the_last()

    async def finish(self, within_s: float) -> int:
        """After `drain`: wait until no call is in flight, for at most `within_s`; return how many still are."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._finished.wait(), within_s)
        return len(self._open)

    def end(self) -> None:
        """End every call that is open with an error."""
        for call in list(self._open):
            call.fail(DrainingError("the server stopped before there was a response", retry_after_s=DRAINING_RETRY_S))

    def _check_that_it_may_begin(self) -> None:
        if self._draining:
            raise DrainingError("the server is shutting down; call another one", retry_after_s=DRAINING_RETRY_S)

    def _work_on(self, call: Call, answer: Awaitable[Message | bytes | None]) -> None:
        task = asyncio.get_running_loop().create_task(_work(call, answer))
        call.on_failure = task.cancel
        self._tasks.add(task)  # the loop itself keeps only weak references
        task.add_done_callback(self._tasks.discard)

    def _ended(self, call: Call, status: Status) -> None:
        self._open.discard(call)
        self._observe(call.rpc.path, status, time.monotonic() - call.arrived)
        if self._draining:
            self._notice_the_last()

    def _traced(self, rpc: Rpc, call: Call, trace: Trace) -> Callable[[Call, Status], None]:
        end_trace = trace(rpc, call)

        def ended(call: Call, status: Status) -> None:
            self._ended(call, status)
            end_trace(status)

        return ended

    def _notice_the_last(self) -> None:
        if not self._open:
            self._finished.set()

    def _check_deadlines_later(self) -> None:
        if not self._checks_deadlines:
            self._checks_deadlines = True
            interval_s = DEADLINE_INTERVAL_S * (1 + len(self._open) // 1000)  # a check takes time for each of them
            asyncio.get_running_loop().call_later(interval_s, self._check_deadlines)

    def _check_deadlines(self) -> None:
        now = time.monotonic()
        for call in [call for call in self._open if call.deadline is not None and call.deadline <= now]:
            call.fail(DeadlineError("the deadline passed before there was an answer"))
        self._checks_deadlines = False
        if any(call.deadline is not None for call in self._open):
            self._check_deadlines_later()


async def _work(call: Call, answer: Awaitable[Message | bytes | None]) -> None:
    try:
        response = await answer
        if response is not None:
            call.respond(response if isinstance(response, bytes) else response.SerializeToString())
    except Exception as error:
        call.on_failure = None  # which would cancel this task
        call.fail(error)


def _parse(rpc: Rpc, content: bytes) -> Message:
    try:
        return rpc.request_type.FromString(content)
    except DecodeError as error:
        name = rpc.request_type.DESCRIPTOR.full_name
        raise InvalidRequestError(f"request: cannot parse {len(content)} bytes as {name}") from error
