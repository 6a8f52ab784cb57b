"""What a transport gives a service, and what every call goes through on our side of that seam.

A transport builds a `Call`, runs `Calls.answer` in a task and cancels that task when the caller goes away or its
deadline passes. It gets a response message or a `ServingError`, nothing else.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import uuid4

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from serving.errors import DrainingError, ServingError, internal_error

DRAINING_RETRY_S = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Call:
    """One call, whatever brought it."""

    method: str
    """The full method, such as "/digits.v1.DigitService/Classify"."""
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


class Calls:
    """Lets calls in, counts those in flight and turns whatever goes wrong into an error that a caller may see."""

    def __init__(self) -> None:
        self._in_flight = 0
        self._draining = False
        self._last_seen = time.monotonic()

    async def answer(self, method: Method, request: Message, call: Call) -> Message:
        """Run `method`; raises ServingError only (and CancelledError when the transport cancels)."""
        with self._counted():
            if self._draining:
                raise DrainingError("the server is shutting down; call another one", retry_after_s=DRAINING_RETRY_S)
            try:
                return await method(request, call)
            except ServingError:
                raise
            except Exception:
                log.exception("%s failed, request id %s", call.method, call.request_id)
                raise internal_error(call.request_id) from None

    def drain(self) -> None:
        """From now on refuse new calls; those in flight go on."""
        self._draining = True

    async def settled(self, *, quiet_s: float, within_s: float) -> bool:
        """Wait until no call has been in flight or arrived for `quiet_s`, for at most `within_s`; say whether so.

        The quiet time is for calls that had left their client but not yet reached us when draining began.
        """
        give_up = time.monotonic() + within_s
        while time.monotonic() < give_up:
            if not self._in_flight and time.monotonic() - self._last_seen >= quiet_s:
                return True
            await asyncio.sleep(min(0.02, quiet_s))
        return False

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
            self._last_seen = time.monotonic()
