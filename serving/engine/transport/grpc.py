"""gRPC over HTTP/2: unary calls without a task, streams with one."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping
from contextlib import aclosing
from functools import cached_property
from typing import Any

from google.rpc import code_pb2, status_pb2

from serving.engine.transport.exchange import Exchange, Header, Rejection, ignore
from serving.engine.transport.http2 import NO_LIMIT, Http2Exchange
from serving.engine.transport.rpc import Request, RpcError, Stream, Trailers, Unary
from serving.engine.transport.wire import (
    ENCODINGS,
    PREFIX_BYTES,
    compressed,
    frame,
    inflated,
    metadata_of,
    seconds,
    shown,
    status_trailers,
    too_large,
)

COMPRESS_BYTES = 1024
"""A shorter message is not compressed: it would not get smaller by much."""

_HEADERS = [(b"content-type", b"application/grpc")]
_REJECTED = [*_HEADERS, (b"grpc-accept-encoding", ENCODINGS)]
_OK = (b"grpc-status", b"0")
_DONE = [_OK]

log = logging.getLogger(__name__)


class GrpcMethods:
    """Every method by its path, "/package.Service/Method"."""

    def __init__(self, methods: Iterable[Unary | Stream], *, max_message_bytes: int) -> None:
        self._methods = {method.path.encode(): method for method in methods}
        self._max_message_bytes = max_message_bytes
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, exchange: Http2Exchange) -> None:
        """The headers of a call have arrived."""
        request = GrpcRequest(exchange, self._max_message_bytes)
        method = self._methods.get(exchange.path)
        try:
            request.read_headers()
            if isinstance(method, Unary):
                request.collect(method.begin)
            elif method is not None:
                exchange.max_body_bytes = NO_LIMIT
                self._spawn(request.stream(method))
            else:
                request.reject(self._unknown(exchange.path), ())
        except RpcError as error:
            request.reject(error.status, ())

    def cancel(self) -> None:
        """End the streams that are open."""
        for task in self._tasks:
            task.cancel()

    def _spawn(self, stream: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(stream)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _unknown(self, path: bytes) -> status_pb2.Status:
        there = ", ".join(sorted(known.decode() for known in self._methods))
        message = f"method: got {shown(path)}, expected one of {there}"
        return status_pb2.Status(code=code_pb2.UNIMPLEMENTED, message=message)


class GrpcRequest(Request):
    """A call in an HTTP/2 stream."""

    def __init__(self, exchange: Http2Exchange, max_message_bytes: int) -> None:
        self._exchange = exchange
        self._max_bytes = max_message_bytes
        self._encoding = exchange.headers.get(b"grpc-encoding", b"identity")
        self._compresses = False
        self.arrived = exchange.arrived
        self.deadline: float | None = None
        self.on_lost: Callable[[], object] = ignore

    @property
    def peer(self) -> str:
        """The address of its connection."""
        return self._exchange.peer

    @property
    def caller(self) -> str:
        """Whom its connection was verified to be from."""
        return self._exchange.caller

    @cached_property
    def metadata(self) -> Mapping[str, str | bytes]:
        """Its headers."""
        return metadata_of(self._exchange.headers)

    def read_headers(self) -> None:
        """Raises RpcError where they cannot be understood."""
        timeout = self._exchange.headers.get(b"grpc-timeout")
        if timeout is not None:
            self.deadline = self.arrived + seconds(timeout)

    def collect(self, begin: Callable[[bytes, Request], None]) -> None:
        """Have `begin` answer the one message of the request, once it is there."""
        exchange = self._exchange
        exchange.max_body_bytes = PREFIX_BYTES + self._max_bytes
        exchange.on_rejected = self._reject_body
        exchange.on_lost = self._lost

        def complete() -> None:
            body, exchange.parts = exchange.body, []
            try:
                content = body[PREFIX_BYTES:] if self._is_plain(body) else self._only_message(body)
            except RpcError as error:
                self.reject(error.status, ())
            else:
                begin(content, self)

        exchange.on_end = complete

    def respond(self, content: bytes, trailers: Trailers) -> None:
        """Send the message, and the status in the trailers."""
        end = [_OK, *((name.encode(), value.encode()) for name, value in trailers)] if trailers else _DONE
        headers, message = self._framed(content)
        self.on_lost = ignore
        self._exchange.respond(200, headers, message, end)

    def reject(self, status: status_pb2.Status, trailers: Trailers) -> None:
        """Send the status, in the headers."""
        self.on_lost = ignore
        self._exchange.reject([*_REJECTED, *status_trailers(status, trailers)])

    async def stream(self, method: Stream) -> None:
        """Answer messages with messages."""
        has_begun = False
        end = status_pb2.Status()
        messages = _Messages(self._exchange, self._encoding, self._max_bytes, asyncio.current_task())
        left_s = None if self.deadline is None else self.deadline - time.monotonic()
        try:
            async with asyncio.timeout(left_s), aclosing(method.answer(messages.all(), self)) as responses:
                async for response in responses:
                    headers, message = self._framed(response)
                    if not has_begun:
                        has_begun = True
                        self._exchange.start(200, headers)
                    self._exchange.write(message)
                    await self._exchange.writable()
        except RpcError as error:
            end = error.status
        except TimeoutError:
            end = status_pb2.Status(code=code_pb2.DEADLINE_EXCEEDED, message="the deadline passed")
        except asyncio.CancelledError:
            if self._exchange.is_over:
                return
            end = status_pb2.Status(code=code_pb2.UNAVAILABLE, message="the server is shutting down; call another one")
        except Exception:
            log.exception("%s failed", method.path)
            end = status_pb2.Status(
                code=code_pb2.INTERNAL, message="the server failed on this call; its log has the cause"
            )
        trailers = status_trailers(end)
        if has_begun:
            self._exchange.finish(trailers)
        else:
            self._exchange.reject([*_REJECTED, *trailers])

    def _lost(self) -> None:
        self.on_lost()  # set by then

    def _reject_body(self, why: Rejection) -> None:
        if why is Rejection.TOO_LARGE:
            error = too_large(f"more than {self._max_bytes}", self._max_bytes)
        elif why is Rejection.STALLED:
            error = RpcError(code_pb2.DEADLINE_EXCEEDED, "request: stopped arriving, expected the rest of it")
        else:
            error = RpcError(code_pb2.RESOURCE_EXHAUSTED, "the server holds too many requests; try again later")
        self.reject(error.status, ())

    def _is_plain(self, body: bytes) -> bool:
        """The usual request: one message, not compressed."""
        return len(body) >= PREFIX_BYTES and not body[0] and len(body) == PREFIX_BYTES + int.from_bytes(body[1:5])

    def _only_message(self, body: bytes) -> bytes:
        """Any other request that has one message; raises RpcError."""
        reader = _Reader(self._encoding, self._max_bytes)
        found = list(reader.feed(body))
        reader.end()
        if len(found) != 1:
            raise RpcError(
                code_pb2.UNIMPLEMENTED, f"request: got {len(found)} messages, expected 1: it is not a streaming method"
            )
        self._compresses = self._encoding in self._exchange.headers.get(b"grpc-accept-encoding", b"").split(b",")
        return found[0]

    def _framed(self, message: bytes) -> tuple[list[Header], bytes]:
        """The headers of a response, and the message in its frame: compressed for a caller that sent it compressed."""
        if not self._compresses:
            return _HEADERS, frame(message)
        headers = [*_HEADERS, (b"grpc-encoding", self._encoding)]
        if len(message) < COMPRESS_BYTES:
            return headers, frame(message)
        return headers, frame(compressed(self._encoding, message), is_compressed=True)


class _Reader:
    """Takes messages out of their frames, as parts of them arrive."""

    def __init__(self, encoding: bytes, max_bytes: int) -> None:
        self._encoding = encoding
        self._max_bytes = max_bytes
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterable[bytes]:
        """The messages that are complete now; raises RpcError. A length is checked before its message is there."""
        self._rest += data
        while len(self._rest) >= PREFIX_BYTES:
            flag, length = self._rest[0], int.from_bytes(self._rest[1:PREFIX_BYTES])
            if flag > 1:
                raise RpcError(code_pb2.INTERNAL, f"message: begins with {flag}, expected 0, or 1 if compressed")
            if length > self._max_bytes:
                raise too_large(length, self._max_bytes)
            end = PREFIX_BYTES + length
            if len(self._rest) < end:
                return
            content = bytes(memoryview(self._rest)[PREFIX_BYTES:end])
            del self._rest[:end]
            yield inflated(self._encoding, content, self._max_bytes) if flag else content

    def end(self) -> None:
        """There is no more: raises RpcError in the middle of a message."""
        if self._rest:
            raise RpcError(
                code_pb2.INTERNAL, f"request: ends in the middle of a message, after {len(self._rest)} bytes of it"
            )


class _Messages:
    """The messages of a stream: what is not asked for yet is not read, so that its caller has to wait."""

    def __init__(self, exchange: Exchange, encoding: bytes, max_bytes: int, task: "asyncio.Task[None] | None") -> None:
        self._exchange = exchange
        self._reader = _Reader(encoding, max_bytes)
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue()
        for part in exchange.parts:
            self._parts.put_nowait(part)
        exchange.parts = []
        if exchange.is_complete:
            self._parts.put_nowait(None)
        exchange.on_data = self._parts.put_nowait
        exchange.on_end = lambda: self._parts.put_nowait(None)
        exchange.on_lost = task.cancel if task else ignore
        if exchange.is_over and task:
            task.cancel()

    async def all(self) -> AsyncGenerator[bytes, None]:
        """Each of them; raises RpcError."""
        while (part := await self._parts.get()) is not None:
            for message in self._reader.feed(part):
                yield message
            self._exchange.consumed(len(part))
        self._reader.end()
