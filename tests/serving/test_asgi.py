"""gRPC over ASGI, driven by the events that an ASGI server would send."""

import asyncio
import base64
import gzip
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from google.rpc import code_pb2, status_pb2

from serving.errors import InternalError, InvalidRequestError, ServingError, from_status
from serving.transport.asgi import AsgiCall, GrpcApp

MAX_BYTES = 2000


def frame(message: bytes, compressed: int = 0) -> bytes:
    """A message as it stands in a request."""
    return bytes([compressed]) + len(message).to_bytes(4, "big") + message


@dataclass
class Response:
    """What the application sent."""

    events: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def http_status(self) -> int:
        """Of the response's start."""
        return int(self.events[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        """Of the response's start."""
        return dict(self.events[0]["headers"])

    @property
    def body(self) -> bytes:
        """All of it."""
        return b"".join(event["body"] for event in self.events if event["type"] == "http.response.body")

    @property
    def trailers(self) -> dict[bytes, bytes]:
        """After the body; in the headers where there is none."""
        after = [dict(event["headers"]) for event in self.events if event["type"] == "http.response.trailers"]
        return after[0] if after else self.headers

    @property
    def status(self) -> int:
        """The gRPC status code."""
        return int(self.trailers[b"grpc-status"])


async def echo(content: bytes, call: AsgiCall) -> bytes:
    """Answer with what came."""
    call.trailers.append(("seen", "yes"))
    return content


async def refuse(_content: bytes, _call: AsgiCall) -> bytes:
    """Refuse in words that no header may hold as they are."""
    raise InvalidRequestError("größer als 100 %\n", field="pixels", metadata={"came": 3})


async def fail(_content: bytes, _call: AsgiCall) -> bytes:
    """Fail as code does."""
    raise ZeroDivisionError


async def hang(_content: bytes, _call: AsgiCall) -> bytes:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def cancelled(_content: bytes, _call: AsgiCall) -> bytes:
    """Wait for what is cancelled meanwhile."""
    waited_for: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    waited_for.cancel()
    return await waited_for


async def count(messages: AsyncIterator[bytes], _call: AsgiCall) -> AsyncGenerator[bytes, None]:
    """Answer each message with how many bytes it has."""
    async for message in messages:
        yield str(len(message)).encode()


async def break_off(messages: AsyncIterator[bytes], _call: AsgiCall) -> AsyncGenerator[bytes, None]:
    """Fail after the first answer."""
    async for message in messages:
        yield message
        raise InvalidRequestError("enough")


METHODS = {"/a/echo": echo, "/a/refuse": refuse, "/a/fail": fail, "/a/hang": hang, "/a/cancelled": cancelled}
STREAMS = {"/a/count": count, "/a/break": break_off}


async def call(
    path: str, *chunks: bytes, headers: Mapping[bytes, bytes] = {}, gone_after_s: float | None = None
) -> Response:
    """Send one request in these chunks of its body; the caller goes away after `gone_after_s`, if ever."""
    app = GrpcApp(METHODS, STREAMS, max_message_bytes=MAX_BYTES)
    response, left = Response(), list(chunks) or [b""]
    gone = None if gone_after_s is None else asyncio.get_running_loop().time() + gone_after_s

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        if gone is not None and asyncio.get_running_loop().time() > gone:
            return {"type": "http.disconnect"}
        if not left:
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(event: Mapping[str, Any]) -> None:
        await asyncio.sleep(0)
        response.events.append(event)

    all_headers = {b"content-type": b"application/grpc", b"te": b"trailers", **headers}
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": list(all_headers.items()),
        "client": ("::1", 50000),
    }
    async with asyncio.timeout(5):
        await app(scope, receive, send)
    assert app.calls_in_flight == 0
    return response


async def test_a_message_is_answered_by_a_message_a_status_and_trailers() -> None:
    """A unary call, as nearly all are."""
    response = await call("/a/echo", frame(b"hello"))
    assert response.http_status == 200
    assert response.headers[b"content-type"] == b"application/grpc"
    assert response.body == frame(b"hello")
    assert response.trailers == {b"grpc-status": b"0", b"seen": b"yes"}


@pytest.mark.parametrize("size", [1, 2, 7])
async def test_a_message_may_come_in_pieces(size: int) -> None:
    """HTTP/2 cuts a body where it likes, also within the prefix."""
    content = frame(b"0123456789")
    pieces = [content[at : at + size] for at in range(0, len(content), size)]
    assert (await call("/a/echo", *pieces)).body == content


async def test_an_error_says_its_code_its_words_and_its_details_before_any_body() -> None:
    """Trailers-Only, with what is no printable ASCII percent-encoded."""
    response = await call("/a/refuse", frame(b""))
    assert response.body == b""
    assert response.status == code_pb2.INVALID_ARGUMENT
    assert response.trailers[b"grpc-message"] == b"gr%C3%B6%C3%9Fer als 100 %25%0A"
    details = response.trailers[b"grpc-status-details-bin"]
    error = from_status(status_pb2.Status.FromString(base64.b64decode(details + b"==")))
    assert isinstance(error, InvalidRequestError)
    assert (error.message, error.field, error.metadata) == ("größer als 100 %\n", "pixels", {"came": "3"})


async def test_an_unexpected_exception_is_told_by_a_request_id_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Its text is in the log."""
    response = await call("/a/fail", frame(b""))
    details = response.trailers[b"grpc-status-details-bin"]
    error: ServingError = from_status(status_pb2.Status.FromString(base64.b64decode(details + b"==")))
    assert isinstance(error, InternalError)
    assert error.metadata["request_id"] in caplog.text
    assert b"ZeroDivision" not in response.trailers[b"grpc-message"]


WRONG: dict[str, tuple[tuple[bytes, ...], dict[bytes, bytes], int, bytes]] = {
    "no message": ((b"",), {}, code_pb2.UNIMPLEMENTED, b"came none"),
    "two messages": ((frame(b"1") + frame(b"2"),), {}, code_pb2.UNIMPLEMENTED, b"came several"),
    "half a prefix": ((b"\0\0",), {}, code_pb2.INTERNAL, b"in the middle"),
    "half a message": ((frame(b"12345")[:-1],), {}, code_pb2.INTERNAL, b"in the middle"),
    "a flag that is none": ((frame(b"1", 7),), {}, code_pb2.INTERNAL, b"begins with 7"),
    "a length beyond the limit, and nothing else": (
        (b"\0" + (2**31).to_bytes(4, "big"), b""),
        {},
        code_pb2.RESOURCE_EXHAUSTED,
        b"larger than max",
    ),
    "a message beyond the limit": ((frame(bytes(2001)),), {}, code_pb2.RESOURCE_EXHAUSTED, b"larger than max"),
    "an encoding that is unknown": (
        (frame(b"1", 1),),
        {b"grpc-encoding": b"br"},
        code_pb2.UNIMPLEMENTED,
        b"grpc-encoding: came br",
    ),
    "compressed without an encoding": ((frame(b"1", 1),), {}, code_pb2.INTERNAL, b"does not say how"),
    "what is no gzip": ((frame(b"12345", 1),), {b"grpc-encoding": b"gzip"}, code_pb2.INTERNAL, b"no gzip"),
    "gzip that is cut": (
        (frame(gzip.compress(b"12345")[:-9], 1),),
        {b"grpc-encoding": b"gzip"},
        code_pb2.INTERNAL,
        b"ends too soon",
    ),
    "gzip that unfolds beyond the limit": (
        (frame(gzip.compress(bytes(10**7)), 1),),
        {b"grpc-encoding": b"gzip"},
        code_pb2.RESOURCE_EXHAUSTED,
        b"larger than max",
    ),
    "a timeout without a unit": ((frame(b"1"),), {b"grpc-timeout": b"10"}, code_pb2.INTERNAL, b"grpc-timeout"),
    "a timeout of nine digits": ((frame(b"1"),), {b"grpc-timeout": b"123456789m"}, code_pb2.INTERNAL, b"8 digits"),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_what_breaks_the_protocol_is_told_in_words(wrong: str) -> None:
    """By the code that the specification, or grpcio, has for it."""
    chunks, headers, code, words = WRONG[wrong]
    response = await call("/a/echo", *chunks, headers=headers)
    assert response.status == code
    assert words in response.trailers[b"grpc-message"]


async def test_who_compresses_is_answered_compressed() -> None:
    """When it is worth it, and when the caller takes it."""
    message, headers = b"7" * 1500, {b"grpc-encoding": b"gzip", b"grpc-accept-encoding": b"identity,deflate,gzip"}
    response = await call("/a/echo", frame(gzip.compress(message), 1), headers=headers)
    assert response.headers[b"grpc-encoding"] == b"gzip"
    assert response.body[0] == 1
    assert gzip.decompress(response.body[5:]) == message
    short = await call("/a/echo", frame(gzip.compress(b"7"), 1), headers=headers)
    assert short.body == frame(b"7")
    plain = await call("/a/echo", frame(gzip.compress(message), 1), headers={b"grpc-encoding": b"gzip"})
    assert plain.body == frame(message)


async def test_an_unknown_method_is_unimplemented() -> None:
    """Reflection lists those that there are."""
    assert (await call("/a/nothing", frame(b""))).status == code_pb2.UNIMPLEMENTED


async def test_what_is_no_grpc_is_told_so_in_http() -> None:
    """A browser or curl may have come to the wrong place: google.rpc.Status as JSON."""
    for path, http_status, code, words in (
        ("/a/echo", 415, code_pb2.INVALID_ARGUMENT, "application/grpc"),
        ("/a/nothing", 404, code_pb2.NOT_FOUND, "nothing at /a/nothing"),
    ):
        response = await call(path, b"{}", headers={b"content-type": b"application/json"})
        told = json.loads(response.body)
        assert (response.http_status, told["code"], words in told["message"]) == (http_status, code, True)


async def test_a_deadline_ends_the_call() -> None:
    """Its caller has given up by itself, and a proxy in between has not."""
    response = await call("/a/hang", frame(b""), headers={b"grpc-timeout": b"50m"})
    assert response.status == code_pb2.DEADLINE_EXCEEDED


async def test_a_second_message_is_refused_before_a_third_is_read() -> None:
    """However many a caller has for a method that takes one, no more than that are held."""
    left = iter([frame(b"1"), frame(b"2")])

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": next(left), "more_body": True}  # a third one would raise

    events: list[Mapping[str, Any]] = []

    async def send(event: Mapping[str, Any]) -> None:
        events.append(event)

    scope = {"method": "POST", "path": "/a/echo", "headers": [(b"content-type", b"application/grpc")]}
    await GrpcApp(METHODS, {}, max_message_bytes=MAX_BYTES)(scope, receive, send)
    assert dict(events[0]["headers"])[b"grpc-status"] == b"%d" % code_pb2.UNIMPLEMENTED


async def test_a_message_may_come_byte_by_byte() -> None:
    """And with the beginning of the next one."""
    content = frame(b"12345") + frame(b"") + frame(b"678")
    response = await call("/a/count", *(content[at : at + 1] for at in range(len(content))))
    assert response.body == frame(b"5") + frame(b"0") + frame(b"3")


async def test_a_call_that_is_cancelled_at_the_end_is_told_so() -> None:
    """By its own words, whether the server cancels the call or what it waits for."""
    events: list[Mapping[str, Any]] = []
    app = GrpcApp(METHODS, STREAMS, max_message_bytes=MAX_BYTES)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": frame(b""), "more_body": False}

    async def send(event: Mapping[str, Any]) -> None:
        events.append(event)

    scope = {"method": "POST", "path": "/a/hang", "headers": [(b"content-type", b"application/grpc")]}
    task = asyncio.create_task(app(scope, receive, send))
    await asyncio.sleep(0.05)
    assert app.calls_in_flight == 1
    app.cancel()
    await task
    assert dict(events[0]["headers"])[b"grpc-message"] == b"the server stopped before there was an answer"
    await app({**scope, "path": "/a/cancelled"}, receive, send)
    assert dict(events[2]["headers"])[b"grpc-status"] == b"%d" % code_pb2.UNAVAILABLE


async def test_a_caller_that_goes_away_ends_the_call() -> None:
    """Nothing is sent: nobody is there."""
    response = await call("/a/hang", frame(b""), gone_after_s=0.03)
    assert response.events == []


async def test_a_stream_answers_each_message() -> None:
    """In the order of the messages, and the status after the last one."""
    response = await call("/a/count", frame(b"1"), frame(b"22") + frame(b"333"))
    assert response.body == frame(b"1") + frame(b"2") + frame(b"3")
    assert response.status == 0


async def test_a_stream_that_fails_has_its_status_in_the_trailers() -> None:
    """Its headers are gone by then."""
    response = await call("/a/break", frame(b"1"))
    assert response.body == frame(b"1")
    assert response.status == code_pb2.INVALID_ARGUMENT


async def test_metadata_is_text_or_bytes() -> None:
    """What the protocol itself says is no metadata; what comes twice is joined."""
    scope = {
        "headers": [
            (b"host", b"here"),
            (b"te", b"trailers"),
            (b"test", b"1"),
            (b"test", b"2"),
            (b"grpc-timeout", b"1S"),
            (b"key-bin", base64.b64encode(b"\x00\xff").rstrip(b"=")),
        ],
        "client": ("127.0.0.1", 9),
    }
    of_call = AsgiCall(scope, dict(scope["headers"]))  # type: ignore[arg-type]
    assert of_call.metadata == {"test": "1,2", "key-bin": b"\x00\xff"}
    assert of_call.peer == "ipv4:127.0.0.1:9"
    assert of_call.deadline is not None
    assert 0.9 < of_call.deadline - of_call.arrived <= 1
