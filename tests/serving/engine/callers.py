"""A server on the engine's transport with methods for tests, and a caller that writes HTTP/2 by h2, not by nghttp2."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import h2.config
import h2.connection
import h2.events
from google.protobuf.wrappers_pb2 import BytesValue
from google.rpc import code_pb2
from grpc_health.v1 import health_pb2

from serving.engine.transport.connection import Limits
from serving.engine.transport.grpc import GrpcMethods
from serving.engine.transport.health import Health
from serving.engine.transport.listener import Listener
from serving.engine.transport.reflection import reflection_methods
from serving.engine.transport.rpc import Request, Role, RpcError, Stream, Unary

SERVICE = "test.Service"
QUICK = Limits(max_message_bytes=2**20)


@dataclass
class Toy:
    """A server with a method that echoes, one that hangs, one that fails, and streams."""

    limits: Limits = QUICK
    hanging: list[Request] = field(default_factory=list)
    callers: "list[Caller]" = field(default_factory=list)
    lost: int = 0
    port: int = 0

    def __post_init__(self) -> None:
        """Make it; it does not listen yet."""
        self.health = Health()
        unary: dict[str, Callable[[bytes, Request], None]] = {"Echo": _echo, "Hang": self._hang, "Fail": _fail}
        unary["Metadata"] = _metadata
        some = health_pb2.DESCRIPTOR.services_by_name["Health"].methods_by_name["Check"]
        methods: list[Unary | Stream] = [
            Unary(f"/{SERVICE}/{name}", some, BytesValue, BytesValue, begin, Role.PUBLIC)
            for name, begin in unary.items()
        ]
        streams = {"EchoAll": _echo_all, "Count": _count, "FailAfterOne": _fail_after_one}
        methods += [Stream(f"/{SERVICE}/{name}", answer, Role.PUBLIC) for name, answer in streams.items()]
        methods += [*self.health.methods, *reflection_methods(["grpc.health.v1.Health"])]
        self.methods = GrpcMethods(methods, max_message_bytes=self.limits.max_message_bytes)
        self.listener = Listener(self.methods.begin, self.limits)  # type: ignore[arg-type]  # every exchange is HTTP/2

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    async def caller(self) -> "Caller":
        """A new connection, to which the server has sent its settings."""
        self.callers.append(Caller(*await asyncio.open_connection("127.0.0.1", self.port)))
        await self.callers[-1].until(lambda caller: caller.h2.outbound_flow_control_window > 2**20)
        return self.callers[-1]

    def _hang(self, _content: bytes, request: Request) -> None:
        self.hanging.append(request)

        def lost() -> None:
            self.lost += 1

        request.on_lost = lost


@asynccontextmanager
async def toy(limits: Limits = QUICK) -> AsyncIterator[Toy]:
    """One that listens."""
    server = Toy(limits)
    server.port = await server.listener.start("127.0.0.1", 0)
    try:
        yield server
    finally:
        for caller in server.callers:
            caller.writer.close()
        server.health.close()
        await server.listener.stop(0)
        server.methods.cancel()


def _echo(content: bytes, request: Request) -> None:
    request.respond(content, [("length", str(len(content)))])


def _fail(_content: bytes, _request: Request) -> None:
    raise RuntimeError("as the test says")


def _metadata(_content: bytes, request: Request) -> None:
    request.respond(repr(sorted(request.metadata.items())).encode(), [])


async def _echo_all(requests: AsyncIterator[bytes], _request: Request) -> AsyncGenerator[bytes, None]:
    async for content in requests:
        yield content


async def _count(requests: AsyncIterator[bytes], _request: Request) -> AsyncGenerator[bytes, None]:
    total = 0
    async for content in requests:
        total += len(content)
    yield str(total).encode()


async def _fail_after_one(requests: AsyncIterator[bytes], _request: Request) -> AsyncGenerator[bytes, None]:
    yield await anext(requests)
    raise RpcError(code_pb2.DATA_LOSS, "100 % gone: \u2620")


class Caller:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        config = h2.config.H2Configuration(
            client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.events: list[h2.events.Event] = []
        self.is_closed = False
        self.flush()

    def flush(self) -> None:
        """Send what is there."""
        self.writer.write(self.h2.data_to_send())

    def begin(self, method: str = "Echo", *extra: tuple[bytes, bytes], path: bytes = b"", end: bool = False) -> int:
        """Send the headers of a call, and return its stream."""
        stream = self.h2.get_next_available_stream_id()
        headers = [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path or f"/{SERVICE}/{method}".encode()),
            (b":authority", b"localhost"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            *extra,
        ]
        self.h2.send_headers(stream, headers, end_stream=end)
        self.flush()
        return stream

    def send(self, stream: int, content: bytes, *, end: bool = True) -> None:
        """Send a message in its frame, as far as the window lets it."""
        data = b"\0" + len(content).to_bytes(4) + content
        while data:
            size = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(data))
            if not size:
                break
            chunk, data = data[:size], data[size:]
            self.h2.send_data(stream, chunk, end_stream=end and not data)
        self.flush()

    def raw(self, data: bytes) -> None:
        """Send any bytes."""
        self.writer.write(data)

    async def until(self, happened: Callable[["Caller"], object]) -> None:
        """Read until something has happened."""
        async with asyncio.timeout(30):
            while not happened(self):
                assert not self.is_closed, self.events
                data = await self.reader.read(2**16)
                self.is_closed = not data
                self.take(data)

    def take(self, data: bytes) -> None:
        """Understand what arrived."""
        for event in self.h2.receive_data(data):
            self.events.append(event)
            if isinstance(event, h2.events.DataReceived):
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        self.flush()

    async def result(self, stream: int) -> tuple[dict[bytes, bytes], bytes]:
        """The headers and trailers of a response that has ended, and its body."""
        await self.until(lambda caller: caller.of(stream, h2.events.StreamEnded, h2.events.StreamReset) != [])
        headers: dict[bytes, bytes] = {}
        for event in self.of(stream, h2.events.ResponseReceived, h2.events.TrailersReceived):
            headers.update(event.headers)
        return headers, b"".join(event.data for event in self.of(stream, h2.events.DataReceived))

    def of(self, stream: int, *kinds: type[h2.events.Event]) -> list[Any]:
        """What happened to a stream."""
        return [event for event in self.events if isinstance(event, kinds) and event.stream_id == stream]  # type: ignore[attr-defined]
