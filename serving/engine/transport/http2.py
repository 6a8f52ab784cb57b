"""HTTP/2 on asyncio: nghttp2, by ngh2, keeps the protocol; asyncio the sockets; this file what lies between.

All use of ngh2 is here. What one turn of the event loop sends on a connection leaves in one write. Flow control bounds
what a caller can have held: the bytes of a request are acknowledged only when its stream is closed, or as its handler
consumes them, so that a caller that sends more than `max_connection_bytes` has to wait.
"""

import asyncio
import logging
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, cast

import ngh2
from ngh2 import ErrorCode, Setting

from serving.engine.transport.connection import Connection, Host, Limits, caller_of, peer_of
from serving.engine.transport.exchange import Exchange, Headers, Rejection, ignore

CHUNK_BYTES = 64 * 1024
"""A longer body is given to nghttp2 in parts, as the caller takes it: it would copy the whole."""

NO_LIMIT = sys.maxsize
"""Of the body, for a handler that consumes it: such a request may also be silent for as long as it likes."""

_STATUS = {status: (b":status", b"%d" % status) for status in range(100, 600)}

log = logging.getLogger(__name__)


def configuration(limits: Limits) -> ngh2.Configuration:
    """What nghttp2 enforces by itself: it closes the connection of a caller that floods it."""
    return ngh2.Configuration(
        auto_window_update=False,
        max_inbound_header_list_size=limits.max_header_bytes,
        max_inbound_header_count=limits.max_headers,
        stream_reset_rate_limit=(10_000, 1_000),  # a proxy shares one connection among many callers
    )


class Http2Exchange(Exchange):
    """A stream."""

    __slots__ = ("_connection", "_id", "changed", "held_bytes", "unacknowledged", "unsent", "unsent_trailers", "waiter")

    def __init__(
        self,
        connection: "Http2",
        stream_id: int,
        method: bytes,
        target: bytes,
        headers: dict[bytes, bytes],
        arrived: float,
    ) -> None:
        super().__init__(method, target, headers, arrived)
        self._connection = connection
        self._id = stream_id
        self.changed = arrived
        """When something last came from the caller, or was taken by it."""
        self.held_bytes = 0
        """What it has in memory."""
        self.unacknowledged = 0
        """What the caller may not send anew yet."""
        self.unsent = memoryview(b"")
        """What of a long body nghttp2 has not been given."""
        self.unsent_trailers: Headers | None = None
        self.waiter: asyncio.Future[None] | None = None

    @property
    def peer(self) -> str:
        """The address of its connection."""
        return self._connection.peer

    @property
    def caller(self) -> str:
        """Whom its connection was verified to be from."""
        return self._connection.caller

    def respond(self, status: int, headers: Headers, body: bytes = b"", trailers: Headers | None = None) -> None:
        """Send a whole response."""
        if self.is_over:
            return
        h2, stream_id = self._connection.h2, self._id
        try:
            if trailers is not None:
                h2.send_response(stream_id, [_STATUS[status], *headers])
                self._send_body(body, trailers)
            else:
                length = (b"content-length", b"%d" % len(body))
                is_whole = not body or self.method == b"HEAD"
                h2.send_response(stream_id, [_STATUS[status], *headers, length], end_stream=is_whole)
                if not is_whole:
                    self._send_body(body, None)
        except ngh2.NGH2Error:
            return  # the caller has gone, in an event that nobody has seen yet
        self._end()

    def reject(self, headers: Headers) -> None:
        """Send a response of headers alone, as gRPC's trailers-only responses are."""
        if not self.is_over:
            try:
                self._connection.h2.send_response(self._id, [_STATUS[200], *headers], end_stream=True)
            except ngh2.NGH2Error:
                return
            self._end()

    def start(self, status: int, headers: Headers) -> None:
        """Send status and headers."""
        if not self.is_over:
            self._try(self._connection.h2.send_response, self._id, [_STATUS[status], *headers])

    def write(self, data: bytes) -> None:
        """Send a part of the body."""
        if not self.is_over and self.method != b"HEAD":
            self._hold(len(data))
            self._try(self._connection.h2.send_data, self._id, data)

    def finish(self, trailers: Headers = ()) -> None:
        """End the body."""
        if not self.is_over:
            h2 = self._connection.h2
            if self._try(h2.send_trailers, self._id, trailers) if trailers else self._try(h2.end_stream, self._id):
                self._end()

    def abort(self) -> None:
        """Reset the stream."""
        if not self.is_over:
            self.is_over = True
            self.drop(ErrorCode.INTERNAL_ERROR)

    def drop(self, code: ErrorCode = ErrorCode.CANCEL) -> None:
        """Reset the stream, whatever of its response is not sent."""
        self.unsent = memoryview(b"")
        self._connection.feeding.discard(self)
        self._try(self._connection.h2.reset_stream, self._id, code)

    async def writable(self) -> None:
        """Wait until less than a chunk waits to be taken."""
        while not self.is_over and self._connection.unsent_bytes(self._id) > CHUNK_BYTES:
            self.waiter = asyncio.get_running_loop().create_future()
            self._connection.waiting.add(self)
            await self.waiter

    def consumed(self, size: int) -> None:
        """Let the caller send `size` bytes more."""
        size = min(size, self.unacknowledged)
        if size:
            self.unacknowledged -= size
            self._hold(-min(size, self.held_bytes))
            self._connection.acknowledge(size, self._id)

    def received(self, data: bytes) -> None:
        """Take a part of the request."""
        size = len(data)
        self.unacknowledged += size
        if self.is_over:
            self.consumed(size)
            return
        self.body_bytes += size
        self._hold(size)
        if self.body_bytes > self.max_body_bytes:
            self.turn_away(Rejection.TOO_LARGE)
        elif self._connection.has_no_room:
            self.turn_away(Rejection.NO_ROOM)
        else:
            self.on_data(data)

    def turn_away(self, why: Rejection) -> None:
        """Take no more of the request, nor keep what is there."""
        self.parts.clear()
        self.on_rejected(why)

    def completed(self) -> None:
        """The request is there as a whole."""
        if not self.is_complete:
            self.is_complete = True
            if not self.is_over:
                self.on_end()

    def closed(self) -> None:
        """The stream is gone: give back what it held, and notify its handler unless it has responded."""
        self._hold(-self.held_bytes)
        if self.unacknowledged:
            self._connection.acknowledge(self.unacknowledged, self._id)
            self.unacknowledged = 0
        self.wake()
        on_lost = self.on_lost
        # They refer to what refers to this: without a cycle it is freed at once, and the collector has no work.
        self.on_data = self.on_end = self.on_lost = self.on_rejected = ignore
        if not self.is_over:
            self.is_over = True
            on_lost()

    def feed(self) -> None:
        """Give nghttp2 more of a long body, as far as the caller takes it."""
        h2 = self._connection.h2
        while self.unsent and h2.queued_body_size(self._id) < CHUNK_BYTES:
            chunk, self.unsent = self.unsent[:CHUNK_BYTES], self.unsent[CHUNK_BYTES:]
            is_last = not self.unsent
            h2.send_data(self._id, chunk, end_stream=is_last and self.unsent_trailers is None)
            if is_last and self.unsent_trailers is not None:
                h2.send_trailers(self._id, self.unsent_trailers)
            self.changed = time.monotonic()

    def wake(self) -> None:
        """Let `writable` look again."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)

    def _send_body(self, body: bytes, trailers: Headers | None) -> None:
        h2 = self._connection.h2
        if len(body) > CHUNK_BYTES:
            self.unsent, self.unsent_trailers = memoryview(body), trailers
            self._connection.feeding.add(self)
            return
        self._hold(len(body))
        h2.send_data(self._id, body, end_stream=trailers is None)
        if trailers is not None:
            h2.send_trailers(self._id, trailers)

    def _hold(self, size: int) -> None:
        self.held_bytes += size
        self._connection.hold(size)

    def _end(self) -> None:
        self.is_over = True
        self.changed = time.monotonic()
        self.parts = []
        if not self.is_complete:
            self._connection.early.append(self._id)
        self._connection.touch()

    def _try(self, send: Callable[..., None], *arguments: Any) -> bool:
        try:
            send(*arguments)
        except ngh2.NGH2Error:
            return False  # as in `respond`
        self._connection.touch()
        return True


class Http2(Connection):
    """One connection. What happens to a stream is `_HANDLERS`: event by event, each on its own."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.h2 = ngh2.Connection(ngh2.Role.SERVER, configuration(host.limits))
        self.peer = self.caller = ""
        self.exchanges: dict[int, Http2Exchange] = {}
        self.feeding: set[Http2Exchange] = set()
        """Those whose body is given to nghttp2 in parts."""
        self.waiting: set[Http2Exchange] = set()
        """Those whose handler waits to write more."""
        self.early: list[int] = []
        """Streams that were responded to before their request was complete: reset once the response has left."""
        self.held_bytes = 0
        self._is_touched = self._is_paused = self._is_closing = False
        self._is_greeted = False
        """Whether the caller's settings have arrived."""
        self._read = self._wrote = time.monotonic()

    @property
    def is_busy(self) -> bool:
        """Whether a stream is open."""
        return bool(self.exchanges)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the settings."""
        self.transport = cast("asyncio.Transport", transport)
        self._loop = asyncio.get_running_loop()
        if not self._host.opened(self):
            self.transport.abort()
            return
        self.peer, self.caller = peer_of(transport), caller_of(transport)
        limits = self._host.limits
        self.transport.set_write_buffer_limits(high=2**20)
        self.h2.initiate_connection(
            {
                Setting.MAX_CONCURRENT_STREAMS: limits.max_streams,
                Setting.INITIAL_WINDOW_SIZE: min(
                    2 * limits.max_message_bytes + CHUNK_BYTES, limits.max_connection_bytes
                ),
                Setting.MAX_HEADER_LIST_SIZE: limits.max_header_bytes,
            }
        )
        self.h2.set_local_window_size(limits.max_connection_bytes)
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio says why it is lost
        """Every open stream has lost its caller."""
        self._is_closing = True
        self._host.closed(self)
        exchanges, self.exchanges = self.exchanges, {}
        for exchange in exchanges.values():
            self._guarded(exchange, exchange.closed)

    def data_received(self, data: bytes) -> None:
        """Handle what has arrived."""
        self._read = time.monotonic()
        try:
            self.h2.receive_data(data)
        except ngh2.NGH2Error as error:
            log.debug("%s broke HTTP/2: %s", self.peer, error)
            self._is_closing = True
        self._handle_events()
        if self.h2.want_write or self._is_closing:
            self.touch()

    def pause_writing(self) -> None:
        """The caller takes nothing: do not read from it either."""
        self._is_paused = True
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """It does again."""
        self._is_paused = False
        self.transport.resume_reading()
        self.touch()

    def touch(self) -> None:
        """Something is to be sent: at the end of this turn of the event loop, with all that comes until then."""
        if not self._is_touched:
            self._is_touched = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send what is there, in one write."""
        self._is_touched = False
        if self._is_paused or self.transport.is_closing():
            return
        try:
            self._send()
            self._reset_early()
        except ngh2.NGH2Error as error:
            log.debug("%s: nothing more can be sent: %s", self.peer, error)
            self._is_closing = True
        self._handle_events()
        if self.waiting:
            waiting, self.waiting = self.waiting, set()
            for exchange in waiting:
                exchange.wake()
        if self._is_closing or not (self.h2.want_read or self.h2.want_write):
            self.transport.close()

    @property
    def has_no_room(self) -> bool:
        """Whether all connections together hold as much as they may."""
        return self._host.held_bytes > self._host.limits.max_held_bytes

    def unsent_bytes(self, stream_id: int) -> int:
        """What of a stream's response has not left this process."""
        if self.transport.is_closing():
            return 0
        return self.h2.queued_body_size(stream_id) + (self.transport.get_write_buffer_size() if self._is_paused else 0)

    def hold(self, size: int) -> None:
        """Count `size` bytes more in memory."""
        self.held_bytes += size
        self._host.held_bytes += size

    def acknowledge(self, size: int, stream_id: int) -> None:
        """Let the caller send `size` bytes more."""
        if not self._is_closing:
            with suppress(ngh2.ConnectionStateError):  # it is ending
                self.h2.acknowledge_received_data(size, stream_id)
            self.touch()

    def check(self, now: float) -> None:
        """End what has taken too long."""
        limits = self._host.limits
        if not self.exchanges:
            limit_s = limits.idle_timeout_s if self._is_greeted else limits.header_timeout_s
            if now - max(self._read, self._wrote) > limit_s:
                self.end()
            return
        if self._is_paused and now - self._wrote > limits.write_timeout_s:
            self.transport.abort()
            return
        for exchange in list(self.exchanges.values()):
            is_late = not exchange.is_complete and exchange.max_body_bytes != NO_LIMIT
            if not exchange.is_over and is_late and now - exchange.changed > limits.request_timeout_s:
                self._guarded(exchange, partial(exchange.turn_away, Rejection.STALLED))
            elif exchange.is_over and now - exchange.changed > limits.write_timeout_s:
                exchange.drop()

    def drain(self) -> None:
        """GOAWAY with the highest stream id: callers open no more streams here, those on their way are still taken."""
        self.h2.send_shutdown_notice()
        self.touch()

    def finish(self) -> None:
        """GOAWAY with the last stream that was taken: later ones are not, and their callers may repeat them."""
        self.h2.send_goaway()
        self.touch()

    def end(self) -> None:
        """GOAWAY, and close."""
        if not self.transport.is_closing():
            self.h2.terminate_connection()
            self._is_closing = True
            self.flush()
            self.transport.close()

    def _send(self) -> None:
        while True:
            for exchange in list(self.feeding):
                try:
                    exchange.feed()
                except ngh2.NGH2Error:
                    self.feeding.discard(exchange)  # its caller has gone
            data = self.h2.data_to_send()
            if not data:
                break
            self._wrote = time.monotonic()
            self.transport.write(data)
            if not self.feeding or self._is_paused:
                break
        self.feeding = {exchange for exchange in self.feeding if exchange.unsent}

    def _handle_events(self) -> None:
        for event in self.h2.events():
            try:
                _HANDLERS[type(event)](self, event)
            except Exception:
                self._fail(event)

    def _fail(self, event: ngh2.Event) -> None:
        """A fault of ours, or an event that nobody knows: at most its stream ends."""
        log.exception("%s: %s cannot be handled", self.peer, type(event).__name__)
        exchange = self.exchanges.get(getattr(event, "stream_id", 0))
        if exchange is not None:
            exchange.abort()

    def _guarded(self, exchange: Http2Exchange, handle: Callable[[], object]) -> None:
        try:
            handle()
        except Exception:
            log.exception("%s: a handler failed", self.peer)
            exchange.abort()

    def _reset_early(self) -> None:
        """A reset that nghttp2 is given together with a response would drop the response (nghttp2 issue 692)."""
        early, self.early = self.early, []
        for stream_id in early:
            exchange = self.exchanges.get(stream_id)
            if exchange is None or exchange.is_complete:
                continue
            if exchange.unsent or self.h2.queued_body_size(stream_id):
                self.early.append(stream_id)
            else:
                self.h2.reset_stream(stream_id, ErrorCode.NO_ERROR)
                self.touch()

    def _on_request(self, event: ngh2.RequestReceived) -> None:
        headers = dict(event.headers)
        if len(headers) != len(event.headers):
            headers = _joined(event.headers)
        method, target = headers.pop(b":method", b""), headers.pop(b":path", b"")
        exchange = Http2Exchange(self, event.stream_id, method, target, headers, self._read)
        self.exchanges[event.stream_id] = exchange
        self._host.begin(exchange)
        if event.end_stream:
            exchange.completed()

    def _on_data(self, event: ngh2.DataReceived) -> None:
        exchange = self.exchanges.get(event.stream_id)
        if exchange is None:
            self.acknowledge(len(event.data), event.stream_id)
            return
        exchange.changed = self._read
        if event.data:
            exchange.received(event.data)
        if event.end_stream:
            exchange.completed()

    def _on_trailers(self, event: ngh2.TrailersReceived) -> None:
        exchange = self.exchanges.get(event.stream_id)
        if exchange is not None:
            exchange.completed()

    def _on_stream_closed(self, event: ngh2.StreamClosed) -> None:
        exchange = self.exchanges.pop(event.stream_id, None)
        if exchange is not None:
            self.feeding.discard(exchange)
            exchange.closed()

    def _on_settings(self, _event: ngh2.SettingsReceived) -> None:
        self._is_greeted = True

    def _on_window(self, _event: ngh2.WindowUpdated) -> None:
        if self.feeding or self.waiting:
            self.touch()

    def _on_connection_closed(self, _event: ngh2.ConnectionClosed) -> None:
        self._is_closing = True

    def _on_nothing(self, _event: ngh2.Event) -> None:
        """nghttp2 has done what there is to do."""


_HANDLERS: dict[type[ngh2.Event], Callable[[Http2, Any], None]] = {
    ngh2.RequestReceived: Http2._on_request,
    ngh2.DataReceived: Http2._on_data,
    ngh2.TrailersReceived: Http2._on_trailers,
    ngh2.StreamClosed: Http2._on_stream_closed,
    ngh2.WindowUpdated: Http2._on_window,
    ngh2.ConnectionClosed: Http2._on_connection_closed,
    ngh2.StreamReset: Http2._on_nothing,
    ngh2.SettingsReceived: Http2._on_settings,
    ngh2.SettingsAcknowledged: Http2._on_nothing,
    ngh2.PingReceived: Http2._on_nothing,
    ngh2.PingAcknowledged: Http2._on_nothing,
    ngh2.GoAwayReceived: Http2._on_nothing,
    ngh2.PriorityUpdateReceived: Http2._on_nothing,
}


def _joined(pairs: tuple[ngh2.Header, ...]) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for name, value in pairs:
        headers[name] = headers[name] + b"," + value if name in headers else value
    return headers
