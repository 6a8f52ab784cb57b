"""gRPC over ASGI: calls that come as HTTP/2 requests, and go as responses with trailers.

HTTP/2 itself is the ASGI server's. Here is what gRPC adds to it: messages in their frames, deadlines, compression,
status and trailing metadata (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
"""

import asyncio
import base64
import binascii
import gzip
import logging
import re
import time
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import aclosing
from typing import Any
from urllib.parse import quote_from_bytes

from google.protobuf.message import DecodeError
from google.rpc import code_pb2

from serving.call import DRAINING_RETRY_S, AwaitedCall
from serving.errors import DeadlineError, DrainingError, ServingError, UnsupportedError, internal_error, to_status
from serving.transport.pages import Show, as_json

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Header = tuple[bytes, bytes]

CONTENT_TYPE = b"application/grpc"
ENCODINGS = b"identity,gzip"

LOOK_S = 0.01
"""How often the calls in flight are looked at: has a deadline passed, has a caller gone?"""

STREAM_LOOK_S = 0.5
"""How often those that may be open for ever are."""

COMPRESS_BYTES = 1024
"""A shorter message is not compressed: it would not get smaller by much."""

_PREFIX_BYTES = 5  # of a message: whether it is compressed, and its length
_TIMEOUT = re.compile(rb"(\d{1,8})([HMSmun])")
_UNIT_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_HEADERS = [(b"content-type", CONTENT_TYPE)]
_GZIP_HEADERS = [*_HEADERS, (b"grpc-encoding", b"gzip")]
_NO_METADATA = {b"content-type", b"te", b"host", b"content-length"}
_DONE = (b"grpc-status", b"0")

log = logging.getLogger(__name__)


class ProtocolError(Exception):
    """What the protocol itself refuses, in the words of a gRPC status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class AsgiCall(AwaitedCall):
    """A call that an ASGI server brought."""

    came_as_gzip = False
    """Whether the request was compressed: then the response may be."""
    ended_by: "ServingError | OSError | None" = None
    """Why it was cancelled from here: OSError when its caller has gone."""
    receive: Receive | None = None
    """Tells whether the caller has gone, once the whole request is there."""
    asked: "asyncio.Future[Event] | None" = None
    """What `receive` was asked last."""

    def __init__(self, scope: Event, headers: Mapping[bytes, bytes]) -> None:
        timeout = headers.get(b"grpc-timeout")
        super().__init__(None if timeout is None else _seconds(timeout))
        self._scope = scope
        self.takes_gzip = b"gzip" in headers.get(b"grpc-accept-encoding", b"")

    @property
    def peer(self) -> str:
        """As grpcio writes it."""
        host, port = self._scope["client"] or ("unknown", 0)
        return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"

    @property
    def metadata(self) -> Mapping[str, str | bytes]:
        """Keys in lower case; binary values end in "-bin". What comes twice is joined by commas."""
        metadata: dict[str, str | bytes] = {}
        for name, value in self._scope["headers"]:
            if name in _NO_METADATA or name.startswith(b"grpc-"):
                continue
            key = name.decode("latin-1")
            if key.endswith("-bin"):
                metadata[key] = _from_base64(value)
            else:
                text, before = value.decode("latin-1"), metadata.get(key)
                metadata[key] = text if before is None else f"{before!s},{text}"
        return metadata


Unary = Callable[[bytes, AsgiCall], Awaitable[bytes]]
"""Answers one message with one message; raises ServingError or ProtocolError."""
Stream = Callable[[AsyncIterator[bytes], AsgiCall], AsyncGenerator[bytes, None]]
"""Answers messages with messages; raises ServingError or ProtocolError."""


class GrpcApp:
    """The ASGI application: methods and streams by their path, "/package.Service/Method", and `pages` for HTTP's GET.

    A call runs in the task that the ASGI server made for it. The task is cancelled when the deadline has passed, when
    the caller has gone, or by `cancel`.
    """

    def __init__(
        self,
        methods: Mapping[str, Unary],
        streams: Mapping[str, Stream],
        *,
        max_message_bytes: int,
        pages: Mapping[str, Show] = {},
    ) -> None:
        self._methods = methods
        self._streams = streams
        self._max_message_bytes = max_message_bytes
        self._pages = pages
        self._unary_calls = _InFlight(LOOK_S)
        self._stream_calls = _InFlight(STREAM_LOOK_S)

    @property
    def calls_in_flight(self) -> int:
        """Unary ones that have begun, and not ended."""
        return len(self._unary_calls)

    def cancel(self) -> None:
        """End every call now; callers are told that the server stopped."""
        self._unary_calls.cancel()
        self._stream_calls.cancel()

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        """Answer one request. Nothing is raised: an ASGI server would make an HTTP response of it, not a gRPC one."""
        headers = dict(scope["headers"])
        if scope["method"] != "POST" or not headers.get(b"content-type", b"").startswith(CONTENT_TYPE):
            await self._answer_http(scope, headers, send)
            return
        reply = _Reply(send)
        method = self._methods.get(scope["path"])
        calls = self._stream_calls if method is None else self._unary_calls
        call = None
        try:
            call = AsgiCall(scope, headers)
            calls.add(call)
            if method:
                content = _whole_message(event := await receive(), self._max_message_bytes)
                if content is None:
                    content = await _Messages(receive, headers, self._max_message_bytes).only(event, call)
                call.receive = receive
                await reply.only(await method(content, call), call)
            else:
                await self._stream(scope["path"], _Messages(receive, headers, self._max_message_bytes), call, reply)
        except BaseException as error:
            shown = _shown(error, scope["path"], call)
            if not isinstance(shown, OSError):
                await reply.end(shown, call.trailers if call else ())
            if not isinstance(error, Exception | asyncio.CancelledError):
                raise
        finally:
            if call:
                calls.remove(call)

    async def _answer_http(self, scope: Event, asked: Mapping[bytes, bytes], send: Send) -> None:
        """A page, or google.rpc.Status as JSON, as every error is to who does not speak gRPC."""
        path = scope["path"]
        if path in self._pages and scope["method"] in ("GET", "HEAD"):
            page = self._pages[path](asked)
        elif path in self._methods or path in self._streams:
            page = as_json(415, _error(code_pb2.INVALID_ARGUMENT, "expected POST, content-type application/grpc"))
        else:
            page = as_json(404, _error(code_pb2.NOT_FOUND, f"there is nothing at {path}"))
        headers = [(name.encode(), value.encode()) for name, value in page.headers.items()]
        if page.status != 304:
            headers.append((b"content-length", b"%d" % len(page.content)))
        await send({"type": "http.response.start", "status": page.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else page.content})

    async def _stream(self, path: str, messages: "_Messages", call: AsgiCall, reply: "_Reply") -> None:
        stream = self._streams.get(path)
        if stream is None:
            raise UnsupportedError(f"there is no method {path}; reflection lists those that there are")
        async with aclosing(messages.all(call)) as requests, aclosing(stream(requests, call)) as responses:
            async for response in responses:
                await reply.message(response, call)
        await reply.end(None, call.trailers)


class _InFlight:
    """Calls that have begun and not ended. Those that nobody waits for any more are ended, at most two `look_s` late.

    An ASGI server tells that a caller has gone only when asked.
    """

    def __init__(self, look_s: float) -> None:
        self._look_s = look_s
        self._tasks: dict[AsgiCall, asyncio.Task[Any] | None] = {}
        self._looks = False

    def __len__(self) -> int:
        return len(self._tasks)

    def add(self, call: AsgiCall) -> None:
        """The call of the running task."""
        if not self._looks:
            self._looks = True
            asyncio.get_running_loop().call_later(self._look_s, self._look)
        self._tasks[call] = asyncio.current_task()

    def remove(self, call: AsgiCall) -> None:
        """It has ended."""
        self._tasks.pop(call, None)

    def cancel(self) -> None:
        """Cancel them all."""
        for task in self._tasks.values():
            if task is not None:
                task.cancel()

    def _look(self) -> None:
        try:
            now = time.monotonic()
            for call in self._tasks:
                if call.deadline is not None and now >= call.deadline:
                    self._end(call, DeadlineError("the deadline passed before there was an answer"))
                elif now - call.arrived > self._look_s and _has_gone(call):
                    self._end(call, ConnectionResetError("the caller has gone"))
        except Exception:
            log.exception("the calls in flight cannot be looked at")
        finally:
            self._looks = bool(self._tasks)
            if self._looks:
                asyncio.get_running_loop().call_later(self._look_s, self._look)

    def _end(self, call: AsgiCall, why: ServingError | OSError) -> None:
        task = self._tasks[call]
        if call.ended_by is None and task is not None and task.cancel():
            call.ended_by = why


def _has_gone(call: AsgiCall) -> bool:
    """What was answered since the last look; asks anew."""
    if call.receive is None:
        return False
    if call.asked is None or call.asked.done():
        if call.asked is not None and not call.asked.cancelled() and call.asked.result()["type"] == "http.disconnect":
            return True
        call.asked = asyncio.ensure_future(call.receive())
    return False


def _whole_message(event: Event, max_bytes: int) -> bytes | None:
    """The usual request: one message, as it is, all of it at once; None when it is not so."""
    if event["type"] != "http.request" or event["more_body"]:
        return None
    content: bytes = event["body"]
    length = int.from_bytes(content[1:_PREFIX_BYTES])
    if len(content) != _PREFIX_BYTES + length or content[0] or length > max_bytes:
        return None
    return content[_PREFIX_BYTES:]


class _Messages:
    """The messages of a request, as they come: no more than one of them is held, and what came together with it."""

    def __init__(self, receive: Receive, headers: Mapping[bytes, bytes], max_message_bytes: int) -> None:
        self._receive = receive
        self._encoding = headers.get(b"grpc-encoding", b"identity")
        self._max_bytes = max_message_bytes
        self._content = bytearray()
        self._at = 0
        self._is_complete = False

    async def only(self, first: Event, call: AsgiCall) -> bytes:
        """The message of a request that has one, and begins with `first`; raises as `all` does."""
        self._take(first)
        message = await self._next(call)
        if message is None or await self._next(call) is not None:
            came = "none" if message is None else "several"
            raise ProtocolError(code_pb2.UNIMPLEMENTED, f"came {came}, expected one message: it is no streaming method")
        return message

    async def all(self, call: AsgiCall) -> AsyncGenerator[bytes, None]:
        """Every message; raises ProtocolError, and OSError when the caller goes away in the middle."""
        while (message := await self._next(call)) is not None:
            yield message

    async def _next(self, call: AsgiCall) -> bytes | None:
        """The next message; None after the last one."""
        while (end := self._end_of_message()) is None:
            if self._is_complete:
                if rest := len(self._content) - self._at:
                    raise ProtocolError(
                        code_pb2.INTERNAL, f"the request ends in the middle of a message, {rest} bytes in"
                    )
                call.receive = self._receive
                return None
            self._take(await self._receive())
        is_compressed = self._content[self._at]
        message = bytes(memoryview(self._content)[self._at + _PREFIX_BYTES : end])
        self._at = end
        return self._decompressed(message, call) if is_compressed else message

    def _take(self, event: Event) -> None:
        if event["type"] == "http.disconnect":
            raise ConnectionResetError("the caller went away before the request was complete")
        del self._content[: self._at]
        self._at = 0
        self._content += event.get("body", b"")
        self._is_complete = not event.get("more_body", False)

    def _end_of_message(self) -> int | None:
        """Where the next message ends; None when it is not whole yet. Its length is checked before it is there."""
        rest = len(self._content) - self._at
        if rest < _PREFIX_BYTES:
            return None
        if self._content[self._at] > 1:
            raise ProtocolError(
                code_pb2.INTERNAL, f"a message begins with {self._content[self._at]}, expected 0, or 1 if compressed"
            )
        length = int.from_bytes(self._content[self._at + 1 : self._at + _PREFIX_BYTES])
        if length > self._max_bytes:
            raise ProtocolError(code_pb2.RESOURCE_EXHAUSTED, _too_large(length, self._max_bytes))
        return self._at + _PREFIX_BYTES + length if rest >= _PREFIX_BYTES + length else None

    def _decompressed(self, message: bytes, call: AsgiCall) -> bytes:
        if self._encoding == b"identity":
            raise ProtocolError(code_pb2.INTERNAL, "a message is compressed, and grpc-encoding does not say how")
        if self._encoding != b"gzip":
            shown = self._encoding.decode("latin-1")
            raise ProtocolError(code_pb2.UNIMPLEMENTED, f"grpc-encoding: came {shown}, expected identity or gzip")
        call.came_as_gzip = True
        decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            content = decompressor.decompress(message, self._max_bytes + 1)
        except zlib.error as error:
            raise ProtocolError(code_pb2.INTERNAL, f"a message is no gzip: {error}") from error
        if len(content) > self._max_bytes:
            raise ProtocolError(code_pb2.RESOURCE_EXHAUSTED, _too_large(len(content), self._max_bytes))
        if not decompressor.eof:
            raise ProtocolError(code_pb2.INTERNAL, "a message's gzip ends too soon")
        return content


def _shown(error: BaseException, path: str, call: AsgiCall | None) -> ServingError | ProtocolError | OSError:
    """What a caller is told of it; whoever went away, OSError, is told nothing."""
    if isinstance(error, asyncio.CancelledError):
        by = call.ended_by if call else None
        return by or DrainingError("the server stopped before there was an answer", retry_after_s=DRAINING_RETRY_S)
    if isinstance(error, ServingError | ProtocolError | OSError):
        return error
    if isinstance(error, DecodeError):
        return ProtocolError(code_pb2.INTERNAL, "the request is no message of that method")
    request_id = call.request_id if call else "none"
    log.error("%s failed, request id %s", path, request_id, exc_info=error)
    return internal_error(request_id)


class _Reply:
    """The response to one request."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._has_begun = False

    async def only(self, message: bytes, call: AsgiCall) -> None:
        """One message, and the end."""
        headers, frame = _framed(message, call)
        await self._send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
        await self._send({"type": "http.response.body", "body": frame})
        trailers = [_DONE, *((name.encode(), value.encode()) for name, value in call.trailers)]
        await self._send({"type": "http.response.trailers", "headers": trailers})

    async def message(self, message: bytes, call: AsgiCall) -> None:
        """One message of several; returns when it is on its way."""
        headers, frame = _framed(message, call)
        if not self._has_begun:
            self._has_begun = True
            await self._send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
        await self._send({"type": "http.response.body", "body": frame, "more_body": True})

    async def end(self, error: ServingError | ProtocolError | None, metadata: Sequence[tuple[str, str]] = ()) -> None:
        """The status; where nothing was sent it stands in the headers (Trailers-Only)."""
        trailers = [*_status(error), *((name.encode(), value.encode()) for name, value in metadata)]
        try:
            if self._has_begun:
                await self._send({"type": "http.response.body", "body": b""})
                await self._send({"type": "http.response.trailers", "headers": trailers})
            else:
                headers = [*_HEADERS, (b"grpc-accept-encoding", ENCODINGS), *trailers]
                await self._send({"type": "http.response.start", "status": 200, "headers": headers})
                await self._send({"type": "http.response.body", "body": b""})
        except OSError:
            log.debug("the caller went away before its status")


def _framed(message: bytes, call: AsgiCall) -> tuple[list[Header], bytes]:
    """The headers of a response, and the message in its frame: compressed for who sent it compressed."""
    if not (call.came_as_gzip and call.takes_gzip):
        return _HEADERS, b"\0" + len(message).to_bytes(4) + message
    if len(message) < COMPRESS_BYTES:
        return _GZIP_HEADERS, b"\0" + len(message).to_bytes(4) + message
    compressed = gzip.compress(message, compresslevel=1)
    return _GZIP_HEADERS, b"\1" + len(compressed).to_bytes(4) + compressed


def _status(error: ServingError | ProtocolError | None) -> list[Header]:
    if error is None:
        return [_DONE]
    if isinstance(error, ProtocolError):
        return [(b"grpc-status", b"%d" % error.code), (b"grpc-message", _percent_encoded(error.message))]
    status = to_status(error)
    details = base64.b64encode(status.SerializeToString()).rstrip(b"=")
    return [
        (b"grpc-status", b"%d" % status.code),
        (b"grpc-message", _percent_encoded(status.message)),
        (b"grpc-status-details-bin", details),
    ]


def _percent_encoded(text: str) -> bytes:
    """As the protocol wants grpc-message: printable ASCII but for "%", all else in UTF-8 as %XX."""
    printable = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
    return quote_from_bytes(text.encode(), safe=printable).encode()


def _seconds(timeout: bytes) -> float:
    """A grpc-timeout, such as b"50m" for 50 milliseconds; raises ProtocolError."""
    parts = _TIMEOUT.fullmatch(timeout)
    if parts is None:
        shown = timeout.decode("latin-1")
        raise ProtocolError(
            code_pb2.INTERNAL, f"grpc-timeout: came {shown!r}, expected up to 8 digits and one of H M S m u n"
        )
    return int(parts[1]) * _UNIT_S[parts[2]]


def _from_base64(value: bytes) -> bytes:
    """With or without padding; what is no base64 stays as it came."""
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4))
    except binascii.Error:
        return value


def _too_large(length: int, limit: int) -> str:
    return f"Received message larger than max ({length} vs. {limit})"  # grpcio's words: clients know them


def _error(code: int, message: str) -> Mapping[str, Any]:
    return {"code": code, "message": message, "details": []}
