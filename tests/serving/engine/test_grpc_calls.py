"""gRPC on the engine's transport, called by grpcio: unary calls, streams of all kinds, compression, metadata."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import BytesValue
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from serving.engine.transport.health import LIVENESS
from tests.serving.engine.callers import QUICK, SERVICE, Toy, toy

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
async def server() -> AsyncIterator[Toy]:
    """One that listens."""
    async with toy() as running:
        yield running


@pytest.fixture
async def channel(server: Toy) -> AsyncIterator[grpc.aio.Channel]:
    """To it."""
    async with grpc.aio.insecure_channel(server.address) as connected:
        yield connected


def unary(channel: grpc.aio.Channel, name: str) -> Any:
    """A method that takes bytes."""
    return channel.unary_unary(f"/{SERVICE}/{name}")


def streams(channel: grpc.aio.Channel, name: str) -> Any:
    """One that takes and gives many."""
    return channel.stream_stream(f"/{SERVICE}/{name}")


@pytest.mark.parametrize("size", [0, 1, 16_384, 65_536, QUICK.max_message_bytes])
async def test_a_message_of_any_allowed_size_is_answered(channel: grpc.aio.Channel, size: int) -> None:
    """With trailing metadata."""
    call = unary(channel, "Echo")(bytes(size))
    assert len(await call) == size
    assert dict(await call.trailing_metadata()) == {"length": str(size)}


async def test_many_calls_at_once_get_their_own_answers(channel: grpc.aio.Channel) -> None:
    """On one connection."""
    contents = [b"%d" % number * (number % 50 + 1) for number in range(500)]
    assert await asyncio.gather(*(unary(channel, "Echo")(content) for content in contents)) == contents


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate], ids=lambda kind: kind.name)
@pytest.mark.parametrize("size", [10, 100_000])
async def test_compressed_messages(channel: grpc.aio.Channel, compression: grpc.Compression, size: int) -> None:
    """Both ways."""
    assert await unary(channel, "Echo")(bytes(size), compression=compression) == bytes(size)


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate], ids=lambda kind: kind.name)
async def test_what_inflates_to_more_than_a_message_may_have_is_rejected(
    channel: grpc.aio.Channel, compression: grpc.Compression
) -> None:
    """A thousandth of it on the wire."""
    with pytest.raises(grpc.aio.AioRpcError, match="larger than max") as error:
        await unary(channel, "Echo")(bytes(100 * 2**20), compression=compression)
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_message_that_is_too_large_is_rejected_with_a_sentence(channel: grpc.aio.Channel) -> None:
    """And the connection goes on."""
    with pytest.raises(grpc.aio.AioRpcError, match="larger than max") as error:
        await unary(channel, "Echo")(bytes(QUICK.max_message_bytes + 1))
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await unary(channel, "Echo")(b"x") == b"x"


async def test_an_unknown_method_says_what_is_there(channel: grpc.aio.Channel) -> None:
    """Escaped, whatever the path was."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await unary(channel, "Nothing")(b"")
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "/test.Service/Nothing" in str(error.value.details())
    assert "/test.Service/Echo, " in str(error.value.details())


async def test_metadata_arrives(channel: grpc.aio.Channel) -> None:
    """Text, and bytes where the key ends in -bin."""
    metadata = (("x-text", "a b"), ("x-bin", bytes(range(256))))
    seen = await unary(channel, "Metadata")(b"", metadata=metadata)
    assert repr(("x-bin", bytes(range(256)))).encode() in seen
    assert repr(("x-text", "a b")).encode() in seen


async def test_streams_both_ways(channel: grpc.aio.Channel) -> None:
    """As many messages, in order; none too."""
    contents = [bytes([number % 256]) * 10_000 for number in range(100)]
    for sent in (contents, []):
        assert [content async for content in streams(channel, "EchoAll")(iter(sent))] == sent


async def test_a_stream_of_more_than_a_connection_holds(channel: grpc.aio.Channel) -> None:
    """Its window opens as its messages are read."""
    count: Any = channel.stream_unary(f"/{SERVICE}/Count")
    sizes = [bytes(500_000)] * (2 * QUICK.max_connection_bytes // 500_000)
    assert await count(iter(sizes)) == str(sum(map(len, sizes))).encode()


async def test_a_stream_that_fails_says_why_after_what_it_sent(channel: grpc.aio.Channel) -> None:
    """In any script."""
    call = streams(channel, "FailAfterOne")(iter([b"one"]))
    assert await call.read() == b"one"
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call.read()
    assert (error.value.code(), error.value.details()) == (grpc.StatusCode.DATA_LOSS, "100 % gone: \u2620")


async def test_a_stream_ends_at_its_deadline(server: Toy) -> None:
    """Though nobody says anything; by the server, which the client's own clock would hide."""
    caller = await server.caller()
    stream = caller.begin("EchoAll", (b"grpc-timeout", b"200m"))
    headers, _ = await caller.result(stream)
    assert headers[b"grpc-status"] == b"4"


async def test_a_stream_that_its_caller_cancels_is_ended(server: Toy, channel: grpc.aio.Channel) -> None:
    """No task of it is left."""
    call = streams(channel, "EchoAll")()
    await call.write(b"x")
    assert await call.read() == b"x"
    call.cancel()
    async with asyncio.timeout(30):
        while server.methods._tasks:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"\2\0\0\0\1x", b"begins with 2"),
        (b"\0\0\0\0\5hel", b"in the middle of a message"),
        (b"\0\0\0\0\1a\0\0\0\0\1b", b"got 2 messages"),
        (b"", b"got 0 messages"),
        (b"\1\0\0\0\1x", b"without grpc-encoding"),
    ],
)
async def test_what_is_no_message_is_rejected(server: Toy, body: bytes, said: bytes) -> None:
    """With a sentence, and the connection goes on."""
    caller = await server.caller()
    stream = caller.begin()
    caller.h2.send_data(stream, body, end_stream=True)
    caller.flush()
    headers, _ = await caller.result(stream)
    assert headers[b"grpc-status"] != b"0"
    assert said in headers[b"grpc-message"]


async def test_health_is_checked_listed_and_watched(server: Toy, channel: grpc.aio.Channel) -> None:
    """The process is well before anything is served, and while it drains."""
    stub: Any = health_pb2_grpc.HealthStub(channel)
    server.health.set("", is_serving=False)
    watch = stub.Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == NOT_SERVING
    assert (await stub.Check(health_pb2.HealthCheckRequest(service=LIVENESS))).status == SERVING
    server.health.set("", is_serving=True)
    assert (await watch.read()).status == SERVING
    listed = (await stub.List(health_pb2.HealthListRequest())).statuses
    assert {name: status.status for name, status in listed.items()} == {"": SERVING, LIVENESS: SERVING}
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await stub.Check(health_pb2.HealthCheckRequest(service="nothing"))
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
    server.health.close()
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await watch.read()
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection(channel: grpc.aio.Channel, version: str) -> None:
    """Names, and the files that describe them."""
    ask: Any = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="grpc.health.v1.Health"),
    ]
    names, file = [response async for response in ask(iter(requests))]
    assert "grpc.health.v1.Health" in {service.name for service in names.list_services_response.service}
    assert file.file_descriptor_response.file_descriptor_proto


async def test_it_is_called_by_messages_too(channel: grpc.aio.Channel) -> None:
    """Which are bytes on the way."""
    method: Any = channel.unary_unary(
        f"/{SERVICE}/Echo",
        request_serializer=BytesValue.SerializeToString,
        response_deserializer=BytesValue.FromString,
    )
    assert (await method(BytesValue(value=b"x"))).value == b"x"
