"""HTTP/2 by a client that is not nghttp2's: every stream on its own, memory within bounds, a timer for everything."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import grpc.aio
import h2.events
import pytest

from serving.engine.transport.exchange import Exchange
from serving.engine.transport.http2 import Http2
from tests.serving.engine.callers import QUICK, SERVICE, Caller, Toy, toy

OK = b"0"


@pytest.fixture
async def server() -> AsyncIterator[Toy]:
    """One that listens."""
    async with toy() as running:
        yield running


def connections(server: Toy) -> list[Http2]:
    """Those that are open."""
    return [connection for connection in server.listener._connections if isinstance(connection, Http2)]


async def assert_answers(caller: Caller) -> None:
    """A call on this connection is answered."""
    stream = caller.begin()
    caller.send(stream, b"hello")
    headers, body = await caller.result(stream)
    assert (headers[b"grpc-status"], body) == (OK, b"\0\0\0\0\5hello")


async def test_a_call_is_answered(server: Toy) -> None:
    """Headers, one message, trailers."""
    await assert_answers(await server.caller())


STRANGE: dict[str, tuple[bytes, list[tuple[bytes, bytes]]]] = {
    "a path that is not UTF-8": (b"/\xff\xfe", []),
    "no such method": (b"/test.Service/Nothing", []),
    "a deadline that is none": (b"", [(b"grpc-timeout", b"-1S")]),
    "an unknown encoding": (b"", [(b"grpc-encoding", b"zip")]),
    "metadata that is not base64": (b"", [(b"x-bin", b"!!!")]),
    "15 KiB of metadata": (b"", [(b"x-large", b"a" * 15_000)]),
    "a header twice": (b"", [(b"x", b"1"), (b"x", b"2")]),
}


@pytest.mark.parametrize("kind", STRANGE)
async def test_what_one_caller_sends_spoils_no_later_call_of_its_connection(server: Toy, kind: str) -> None:
    """A proxy shares one connection among its callers, and HPACK remembers every header."""
    caller = await server.caller()
    path, extra = STRANGE[kind]
    for _ in range(3):
        stream = caller.begin("Echo", *extra, path=path)
        caller.send(stream, b"x")
        headers, _ = await caller.result(stream)
        assert headers[b":status"] == b"200"
        assert b"grpc-status" in headers
        await assert_answers(caller)


@pytest.mark.parametrize("path", [None, b"*", b""], ids=["none", "*", "empty"])
async def test_a_connect_or_a_path_that_is_none_leaves_the_neighbours_alone(server: Toy, path: bytes | None) -> None:
    """The call that was open on the same connection is answered."""
    caller = await server.caller()
    open_call = caller.begin()
    stream = caller.h2.get_next_available_stream_id()
    headers = [(b":method", b"CONNECT"), (b":authority", b"x"), *([] if path is None else [(b":path", path)])]
    caller.h2.send_headers(stream, headers)
    caller.flush()
    caller.send(open_call, b"hello")
    result, _ = await caller.result(open_call)
    assert result[b"grpc-status"] == OK


async def test_a_request_that_ends_in_trailers_is_answered(server: Toy) -> None:
    """As HTTP allows it."""
    caller = await server.caller()
    stream = caller.begin()
    caller.send(stream, b"hello", end=False)
    caller.h2.send_headers(stream, [(b"x-checksum", b"1")], end_stream=True)
    caller.flush()
    headers, body = await caller.result(stream)
    assert (headers[b"grpc-status"], body[5:]) == (OK, b"hello")


async def test_a_body_above_the_limit_gets_status_and_sentence_and_then_a_reset(server: Toy) -> None:
    """The status must not be lost by the reset, and nothing more is read."""
    caller = await server.caller()
    stream = caller.begin()
    caller.send(stream, bytes(QUICK.max_message_bytes), end=False)
    caller.h2.send_data(stream, b"and more")
    caller.flush()
    await caller.until(lambda caller: caller.of(stream, h2.events.StreamReset) != [])
    (response,) = caller.of(stream, h2.events.ResponseReceived)
    assert dict(response.headers)[b"grpc-status"] == b"8"
    assert b"larger than max" in dict(response.headers)[b"grpc-message"]
    assert caller.of(stream, h2.events.StreamReset)[0].error_code == 0
    await assert_answers(caller)


async def test_bodies_that_never_end_hold_no_more_than_a_connection_may(server: Toy) -> None:
    """Two hundred, each below the limit of a message: the caller has to wait, its neighbours do not."""
    greedy = await server.caller()
    for _ in range(200):
        stream = greedy.begin()
        greedy.send(stream, bytes(900_000), end=False)
        await asyncio.sleep(0)
    await assert_answers(await server.caller())
    assert 10**6 < server.listener.held_bytes <= QUICK.max_connection_bytes
    greedy.writer.close()
    await until(lambda: server.listener.held_bytes == 0)


async def test_all_connections_together_hold_no_more_than_allowed() -> None:
    """The call that would exceed it is rejected, with a sentence; when there is room again, calls are answered."""
    async with toy(replace(QUICK, max_held_bytes=10**6)) as server:
        greedy, other = await server.caller(), await server.caller()
        for _ in range(2):
            greedy.send(greedy.begin(), bytes(400_000), end=False)
        await until(lambda: server.listener.held_bytes > 800_000)
        await assert_answers(other)
        stream = other.begin()
        other.send(stream, bytes(300_000), end=False)
        headers, _ = await other.result(stream)
        assert headers[b"grpc-status"] == b"8"
        assert b"holds too many requests" in headers[b"grpc-message"]
        await assert_answers(other)
        greedy.writer.close()
        await until(lambda: server.listener.held_bytes == 0)


async def until(happened: Callable[[], object]) -> None:
    """Wait."""
    async with asyncio.timeout(30):
        while not happened():
            await asyncio.sleep(0.01)


async def test_what_a_call_held_is_given_back(server: Toy) -> None:
    """Many large calls, one after the other, on one connection: its window opens again and again."""
    caller = await server.caller()
    for _ in range(40):
        stream = caller.begin()
        caller.send(stream, bytes(10**6))
        headers, body = await caller.result(stream)
        assert (headers[b"grpc-status"], len(body)) == (OK, 10**6 + 5)
    await until(lambda: server.listener.held_bytes == 0)


async def test_responses_that_nobody_takes_are_bounded_and_end(server: Toy) -> None:
    """A window of 0: a body waits, and after the time limit its stream is reset."""
    caller = await server.caller()
    caller.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
    caller.flush()
    streams = [caller.begin() for _ in range(5)]
    for stream in streams:
        caller.send(stream, bytes(60_000))
    await until(lambda: all(exchange.is_over for one in connections(server) for exchange in one.exchanges.values()))
    await until(lambda: server.listener.held_bytes >= 5 * 60_000)
    connections(server)[0].check(time.monotonic() + QUICK.write_timeout_s + 1)
    await caller.until(lambda caller: all(caller.of(stream, h2.events.StreamReset) for stream in streams))
    await until(lambda: server.listener.held_bytes == 0)


async def test_a_body_that_stops_arriving_is_rejected(server: Toy) -> None:
    """With a status; the connection goes on."""
    caller = await server.caller()
    stream = caller.begin()
    caller.send(stream, b"half", end=False)
    await until(lambda: connections(server) and connections(server)[0].exchanges)
    connections(server)[0].check(time.monotonic() + QUICK.request_timeout_s + 1)
    headers, _ = await caller.result(stream)
    assert headers[b"grpc-status"] == b"4"
    assert b"stopped arriving" in headers[b"grpc-message"]
    await assert_answers(caller)


async def test_a_connection_that_says_nothing_is_closed(server: Toy) -> None:
    """After seconds before its settings, after an hour behind them."""
    caller = await server.caller()
    await assert_answers(caller)
    connections(server)[0].check(time.monotonic() + QUICK.header_timeout_s + 1)
    await assert_answers(caller)
    connections(server)[0].check(time.monotonic() + QUICK.idle_timeout_s + 1)
    await caller.until(lambda caller: caller.is_closed)
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    await until(lambda: connections(server))
    connections(server)[0].check(time.monotonic() + QUICK.header_timeout_s + 1)
    await until(lambda: not connections(server))
    writer.close()


async def test_more_connections_than_allowed_are_closed() -> None:
    """Those that are there are served."""
    async with toy(replace(QUICK, max_connections=2)) as server:
        first, second = await server.caller(), await server.caller()
        await assert_answers(first)
        await assert_answers(second)
        _, third = reader_writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert await reader_writer[0].read() == b""
        third.close()
        await assert_answers(first)


HANDLERS = ["begin", "on_data", "on_end", "on_lost", "on_rejected"]


@pytest.mark.parametrize("where", HANDLERS)
async def test_a_fault_in_any_handler_ends_its_stream_alone(server: Toy, where: str) -> None:
    """Injected into each of them; the neighbour on the same connection is answered, before and after."""

    def fault(*_: object) -> None:
        raise RuntimeError("as the test says")

    real = server.listener._begin

    def begin(exchange: Exchange) -> None:
        real(exchange)
        if exchange.path.endswith(b"/Hang"):
            if where == "begin":
                fault()
            setattr(exchange, where, fault)

    server.listener._begin = begin
    caller = await server.caller()
    neighbour = caller.begin()
    stream = caller.begin("Hang")
    if where == "on_lost":
        caller.h2.reset_stream(stream)
        caller.flush()
    elif where == "on_rejected":
        caller.send(stream, bytes(QUICK.max_message_bytes), end=False)
        await asyncio.sleep(0.1)
    else:
        caller.send(stream, b"x")
        await caller.until(lambda caller: caller.of(stream, h2.events.StreamReset) != [])
    caller.send(neighbour, b"hello")
    headers, _ = await caller.result(neighbour)
    assert headers[b"grpc-status"] == OK
    await assert_answers(caller)


async def test_a_method_that_raises_ends_its_stream_alone(server: Toy) -> None:
    """A transport cannot trust what it calls."""
    caller = await server.caller()
    stream = caller.begin("Fail")
    caller.send(stream, b"x")
    await caller.until(lambda caller: caller.of(stream, h2.events.StreamReset) != [])
    await assert_answers(caller)


async def test_bytes_that_are_not_http2_end_their_connection_alone(server: Toy) -> None:
    """With a GOAWAY, if they began as HTTP/2."""
    good, bad = await server.caller(), await server.caller()
    await assert_answers(bad)
    bad.raw(b"\xff" * 100)
    await bad.until(lambda caller: caller.is_closed)
    await assert_answers(good)


async def test_a_caller_that_goes_away_is_noticed(server: Toy) -> None:
    """By a reset or a closed connection."""
    caller = await server.caller()
    streams = [caller.begin("Hang") for _ in range(3)]
    for stream in streams:
        caller.send(stream, b"x")
    await until(lambda: len(server.hanging) == 3)
    caller.h2.reset_stream(streams[0])
    caller.flush()
    await until(lambda: server.lost == 1)
    caller.writer.close()
    await until(lambda: server.lost == 3)


async def test_a_drain_says_so_and_answers_what_is_open(server: Toy) -> None:
    """GOAWAY at once; calls that were on their way are answered; then the connection closes, and the port."""
    caller = await server.caller()
    await assert_answers(caller)
    async with grpc.aio.insecure_channel(server.address) as channel:
        method: Any = channel.unary_unary(f"/{SERVICE}/Hang")
        call = method(b"x")
        await until(lambda: server.hanging)
        server.listener.drain()
        await caller.until(lambda caller: any(isinstance(e, h2.events.ConnectionTerminated) for e in caller.events))
        await assert_answers(await server.caller())
        stopping = asyncio.create_task(server.listener.stop(30))
        await asyncio.sleep(0.05)
        server.hanging[0].respond(b"late", ())
        assert await call == b"late"
        await stopping
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", server.port)


async def test_five_hundred_idle_connections_disturb_nobody(server: Toy) -> None:
    """They say nothing."""
    writers = [(await asyncio.open_connection("127.0.0.1", server.port))[1] for _ in range(500)]
    await assert_answers(await server.caller())
    for writer in writers:
        writer.close()
