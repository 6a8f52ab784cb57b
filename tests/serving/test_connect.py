"""A client that has nothing in common with grpcio: Connect's, whose HTTP/2 is written in Rust and whose gRPC in Python.

What both understand is the protocol, not a habit of one library.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import numpy as np
import pytest
from connectrpc.client import ConnectClient, ResponseMetadata
from connectrpc.code import Code
from connectrpc.compat import google_protobuf_binary_codec
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.protocol import ProtocolType
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from pyqwest import Client, HTTPTransport, HTTPVersion

from protos.digits.v1.digits_pb2 import ClassifyRequest, ClassifyResponse, GetModelRequest, GetModelResponse
from serving.call import TIMING
from serving.pixels import Images
from serving.session import Session
from tests.serving.conftest import Publisher, Serve

Connect = Callable[..., AbstractAsyncContextManager[ConnectClient]]


def method(
    name: str,
    request: type[Message],
    response: type[Message],
    service: str = "digits.v1.DigitService",
    kind: StreamType = StreamType.UNARY,
) -> MethodInfo[Any, Any]:
    """A method, as code that is generated for Connect describes it."""
    return MethodInfo(
        name=name,
        service_name=service,
        input=request,
        output=response,
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=kind,
    )


CLASSIFY = method("Classify", ClassifyRequest, ClassifyResponse)
GET_MODEL = method("GetModel", GetModelRequest, GetModelResponse)
WATCH = method("Watch", HealthCheckRequest, HealthCheckResponse, "grpc.health.v1.Health", StreamType.SERVER_STREAM)


@pytest.fixture
def connect(serve: Serve, publisher: Publisher) -> Connect:
    """A client of a server that has version 1. It compresses what it sends, and takes compressed answers."""

    @asynccontextmanager
    async def start(protocol: ProtocolType = ProtocolType.GRPC, **settings: Any) -> AsyncIterator[ConnectClient]:
        publisher.publish(1)
        web = protocol is ProtocolType.GRPC_WEB
        async with (
            serve(**settings) as running,
            HTTPTransport(http_version=HTTPVersion.HTTP1 if web else HTTPVersion.HTTP2) as transport,
            ConnectClient(
                f"http://{running.address}",
                protocol=protocol,
                codec=google_protobuf_binary_codec(),
                http_client=Client(transport),
                timeout_ms=10_000,
            ) as client,
        ):
            yield client

    return start


async def classify(client: ConnectClient, images: Images) -> ClassifyResponse:
    """One call."""
    request = ClassifyRequest(image_count=len(images), pixels=images.tobytes())
    response: ClassifyResponse = await client.execute_unary(request=request, method=CLASSIFY)
    return response


def are_right(response: ClassifyResponse, images: Images, sessions: Mapping[int, Session]) -> bool:
    """Whether these are the bits that version 1 gives."""
    return np.array_equal(np.array(response.probabilities, np.float32), sessions[1].run(images).probabilities.ravel())


async def test_it_gets_the_same_bits(
    connect: Connect, images: Images, sessions: Mapping[int, Session], transport: str
) -> None:
    """From one image to as many as a call may have; Envoy's answers come compressed, as the requests do."""
    async with connect() as client:
        for count in (1, 40, 1000):
            with ResponseMetadata() as told:
                response = await classify(client, images[:count])
            assert are_right(response, images[:count], sessions)
            if transport == "envoy" and count > 1:
                assert dict(told.headers.allitems())["grpc-encoding"] == "gzip"
            assert "compute_us=" in dict(told.trailers.allitems())[TIMING]


async def test_it_reads_the_code_the_words_and_the_details_of_an_error(connect: Connect, images: Images) -> None:
    """And goes on over the same connection."""
    async with connect() as client:
        with pytest.raises(ConnectError, match=r"^image_count: came 0, expected 1 to 1024") as caught:
            await classify(client, images[:0])
        assert caught.value.code is Code.INVALID_ARGUMENT
        info = next(detail for detail in caught.value.details if detail.type_name == ErrorInfo.DESCRIPTOR.full_name)
        assert ErrorInfo.FromString(info.message_bytes).reason == "INVALID_REQUEST"
        assert (await client.execute_unary(request=GetModelRequest(), method=GET_MODEL)).model_version == 1


async def test_its_deadline_is_understood(connect: Connect, images: Images) -> None:
    """A call that is given a minute is answered."""
    async with connect() as client:
        request = ClassifyRequest(image_count=1, pixels=images[0].tobytes())
        response = await client.execute_unary(request=request, method=CLASSIFY, timeout_ms=60_000)
    assert len(response.digits) == 1


async def test_it_reads_a_stream(connect: Connect) -> None:
    """Health, as long as it is watched."""
    async with connect() as client:
        async for response in client.execute_server_stream(request=HealthCheckRequest(), method=WATCH):
            assert response.status == HealthCheckResponse.SERVING
            break


@pytest.mark.parametrize("transport", ["envoy"])
async def test_it_calls_by_grpc_web_over_http_1(
    connect: Connect, images: Images, sessions: Mapping[int, Session]
) -> None:
    """As a page does; the trailers come in the body."""
    async with connect(ProtocolType.GRPC_WEB) as client:
        assert are_right(await classify(client, images[:40]), images[:40], sessions)
        with pytest.raises(ConnectError, match=r"^image_count: came 0, expected 1 to 1024") as caught:
            await classify(client, images[:0])
    assert caught.value.code is Code.INVALID_ARGUMENT
