"""The server on the wire: real gRPC, a real model, a free port."""

import asyncio
import shutil
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from protos.digits.v1 import digits_pb2
from protos.digits.v1.digits_pb2 import ClassifyRequest, ClassifyResponse, GetModelRequest
from serving.call import Call, Dispatcher
from serving.client import AsyncDigitClient
from serving.engine.transport.connection import Limits
from serving.errors import (
    DeadlineError,
    InternalError,
    InvalidRequestError,
    NoModelError,
    OverloadedError,
    ServingError,
)
from serving.pixels import Images
from serving.provider import CPU
from serving.session import Session
from serving.transport.http import HttpTransport
from tests.serving.conftest import VERSIONS, Publisher, Serve, is_right
from tests.serving.test_pixels import png

IMAGE_BYTES = 28 * 28
SERVICE = "digits.v1.DigitService"


async def raw_classify(address: str, request: ClassifyRequest | bytes, *, timeout_s: float = 10.0) -> ClassifyResponse:
    """Call Classify without our client, with any bytes."""
    content = request if isinstance(request, bytes) else request.SerializeToString()
    async with grpc.aio.insecure_channel(address) as channel:
        response = await unary(channel, "Classify")(content, timeout=timeout_s)
    return ClassifyResponse.FromString(response)


def unary(channel: grpc.aio.Channel, method: str) -> Any:
    """A method that takes and gives bytes."""
    return channel.unary_unary(f"/{SERVICE}/{method}")


async def test_images_are_classified(
    serve: Serve, publisher: Publisher, images: Images, labels: Images, sessions: Mapping[int, Session]
) -> None:
    """Digits are right, probabilities are the model's own bits, and the answer names its maker."""
    publisher.publish(1)
    async with serve() as running:
        answer = await running.client.classify(images)
    assert (answer.digits == labels).mean() > 0.97
    assert is_right(answer, images, sessions)
    assert (answer.model_name, answer.model_version, answer.provider) == ("digits", 1, CPU)


async def test_png_files_are_classified_like_their_pixels(serve: Serve, publisher: Publisher, images: Images) -> None:
    """Encoded or not, the same answer."""
    publisher.publish(1)
    async with serve() as running:
        encoded = await running.client.classify_png([png(image) for image in images[:5]])
        plain = await running.client.classify(images[:5])
    assert np.array_equal(encoded.probabilities, plain.probabilities)


async def test_a_single_image_needs_no_batch_dimension(serve: Serve, publisher: Publisher, images: Images) -> None:
    """(row, column) is one image."""
    publisher.publish(1)
    async with serve() as running:
        assert (await running.client.classify(images[0])).digits.tolist() == [7]


async def test_the_model_is_described(serve: Serve, publisher: Publisher) -> None:
    """All that a client must know to call it."""
    publisher.publish(2)
    async with serve(max_image_count=77) as running:
        model = await running.client.model()
    assert (model.name, model.version, model.provider) == ("digits", 2, CPU)
    assert (model.image_height, model.image_width, model.max_image_count) == (28, 28, 77)
    assert model.labels == tuple("0123456789")
    assert len(model.sha256) == 64
    assert model.accuracy > 0.98
    assert model.refusal == ""


async def test_concurrent_calls_all_get_their_own_answers(
    serve: Serve, publisher: Publisher, images: Images, sessions: Mapping[int, Session]
) -> None:
    """Two hundred calls of different sizes at once: none is lost or mixed up."""
    publisher.publish(1)
    sizes = [1 + index % 7 for index in range(200)]
    async with serve() as running:
        answers = await asyncio.gather(
            *(running.client.classify(images[index : index + size]) for index, size in enumerate(sizes))
        )
    for index, (size, answer) in enumerate(zip(sizes, answers, strict=True)):
        assert is_right(answer, images[index : index + size], sessions)


BAD_REQUESTS: dict[str, tuple[ClassifyRequest, str, str]] = {
    "nothing": (ClassifyRequest(), "image_count", "came 0, expected 1 to 1024"),
    "no pixels": (ClassifyRequest(image_count=1), "pixels", "came 0 bytes, expected 784"),
    "a negative count": (ClassifyRequest(image_count=-1), "image_count", "came -1"),
    "too many images": (
        ClassifyRequest(image_count=1025, pixels=bytes(1025 * IMAGE_BYTES)),
        "image_count",
        "came 1025, expected 1 to 1024",
    ),
    "a byte too few": (ClassifyRequest(image_count=2, pixels=bytes(2 * IMAGE_BYTES - 1)), "pixels", "came 1567 bytes"),
    "pixels without a count": (ClassifyRequest(pixels=bytes(IMAGE_BYTES)), "image_count", "came 0"),
    "pixels and files": (
        ClassifyRequest(image_count=1, pixels=bytes(IMAGE_BYTES), encoded_images=[b"x"]),
        "encoded_images",
        "came beside pixels",
    ),
    "another count than files": (
        ClassifyRequest(image_count=2, encoded_images=[b"x"]),
        "image_count",
        "came 2, expected 1",
    ),
    "no PNG file": (ClassifyRequest(encoded_images=[b"hello"]), "encoded_images[0]", "no PNG file"),
    "a PNG file of another size": (
        ClassifyRequest(encoded_images=[png(np.zeros((5, 4), np.uint8))]),
        "encoded_images[0]",
        "came 4 x 5 pixels, expected 28 x 28",
    ),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
async def test_a_wrong_request_is_told_what_is_wrong(serve: Serve, publisher: Publisher, case: str) -> None:
    """INVALID_ARGUMENT, with the field in the message, in BadRequest, and one ErrorInfo."""
    request, field, message = BAD_REQUESTS[case]
    publisher.publish(1)
    async with serve() as running:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await raw_classify(running.address, request)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    status = rpc_status.from_call(error.value)
    assert status is not None
    assert message in status.message
    details = {detail.type_url.rsplit(".", 1)[1]: detail for detail in status.details}
    bad_request = error_details_pb2.BadRequest.FromString(details["BadRequest"].value)
    assert bad_request.field_violations[0].field == field
    info = error_details_pb2.ErrorInfo.FromString(details["ErrorInfo"].value)
    assert (info.reason, info.domain) == ("INVALID_REQUEST", "digits.v1")


async def test_a_wrong_request_leaves_its_neighbours_alone(
    serve: Serve, publisher: Publisher, images: Images, sessions: Mapping[int, Session]
) -> None:
    """One bad call among sixty-four: exactly one error."""
    publisher.publish(1)
    async with serve() as running:
        calls = [running.client.classify(images[index]) for index in range(63)]
        bad = running.client.classify(images[:1, :20])
        answers = await asyncio.gather(*calls[:30], bad, *calls[30:], return_exceptions=True)
    assert [type(answer) for answer in answers if isinstance(answer, Exception)] == [InvalidRequestError]


async def test_bytes_that_are_no_message_are_refused_and_the_server_goes_on(
    serve: Serve, publisher: Publisher, images: Images
) -> None:
    """INVALID_ARGUMENT, not the parser's exception."""
    publisher.publish(1)
    async with serve() as running:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await raw_classify(running.address, b"\xff" * 20)
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert error.value.details() == "request: cannot parse 20 bytes as digits.v1.ClassifyRequest"
        assert (await running.client.classify(images[0])).digits.tolist() == [7]


async def test_an_unknown_method_is_unimplemented(serve: Serve) -> None:
    """UNIMPLEMENTED, as the specification says."""
    async with serve() as running, grpc.aio.insecure_channel(running.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await unary(channel, "Draw")(b"")
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_message_above_the_limit_is_refused(serve: Serve, publisher: Publisher) -> None:
    """The transport itself refuses what is larger than max_message_bytes."""
    publisher.publish(1)
    async with serve(max_message_bytes=4096) as running:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await raw_classify(running.address, ClassifyRequest(image_count=10, pixels=bytes(10 * IMAGE_BYTES)))
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_without_a_model_it_is_alive_and_says_so(serve: Serve, images: Images) -> None:
    """NOT_SERVING for health, UNAVAILABLE with RetryInfo for callers."""
    async with serve() as running:
        with pytest.raises(NoModelError, match="no model version is loaded yet") as error:
            await running.client.classify(images[0])
        assert error.value.retry_after_s == 1.0
        assert await health(running.address) == "NOT_SERVING"


async def test_it_begins_to_serve_when_a_version_is_published(
    serve: Serve, publisher: Publisher, images: Images
) -> None:
    """Nobody starts it again."""
    async with serve(poll_ms=250) as running:
        assert await health(running.address) == "NOT_SERVING"
        publisher.publish(1)
        await running.client.wait_until_serving(within_s=10)
        assert (await running.client.classify(images[0])).model_version == 1
        assert await health(running.address) == "SERVING"
        assert await health(running.address, SERVICE) == "SERVING"


async def test_swaps_under_load_lose_and_mix_nothing(
    serve: Serve, publisher: Publisher, images: Images, sessions: Mapping[int, Session]
) -> None:
    """Six swaps while eight callers call: no error, and every answer is the one of the version that it names."""
    publisher.publish(1)
    stop = asyncio.Event()

    async def call_on(client: AsyncDigitClient, offset: int) -> list[int]:
        seen = []
        while not stop.is_set():
            batch = images[offset : offset + 5]
            answer = await client.classify(batch)
            assert is_right(answer, batch, sessions)
            seen.append(answer.model_version)
        return seen

    async with serve() as running:
        callers = [asyncio.create_task(call_on(running.client, 5 * index)) for index in range(8)]
        for version in (2, 1, 2, 1, 2, 1):
            publisher.publish(version)
            while (await running.client.model()).version != version:
                await asyncio.sleep(0.02)
        stop.set()
        seen = await asyncio.gather(*callers)
    assert {version for versions in seen for version in versions} == {1, 2}


async def test_a_refused_version_is_seen_in_the_model(serve: Serve, publisher: Publisher) -> None:
    """An operator can ask the server why it did not follow."""
    publisher.publish(1)
    async with serve() as running:
        shutil.copytree(VERSIONS / "2", publisher.model.path(2))
        model = publisher.model.path(2) / "model.onnx"
        model.chmod(0o644)
        model.write_bytes(b"broken")
        publisher.point_at(2)
        while not (described := await running.client.model()).refusal:
            await asyncio.sleep(0.02)
    assert described.version == 1
    assert "model.onnx: is 6 bytes long" in described.refusal


async def test_png_files_never_delay_a_new_version(serve: Serve, publisher: Publisher, images: Images) -> None:
    """Thousands of files wait to be decoded, and a new version answers before they are."""
    publisher.publish(1)
    files = [png(image) for image in images]
    async with serve(max_queue_images=2**15, max_queue_ms=60_000) as running:
        calls = [asyncio.create_task(running.client.classify_png(files, timeout_s=60)) for _ in range(20)]
        await asyncio.sleep(0.1)
        publisher.publish(2)
        while (await running.client.model()).version != 2:
            await asyncio.sleep(0.02)
        assert not calls[-1].done()
        await asyncio.gather(*calls)


async def test_too_many_png_files_are_refused_before_they_are_decoded(
    serve: Serve, publisher: Publisher, images: Images
) -> None:
    """Decoding has a queue of its own, and a limit."""
    publisher.publish(1)
    files = [png(images[0])] * 1000
    async with serve(max_queue_images=2000) as running:
        calls = (running.client.classify_png(files) for _ in range(20))
        answers = await asyncio.gather(*calls, return_exceptions=True)
    kinds = {type(answer) for answer in answers}
    assert OverloadedError in kinds
    assert len(kinds) == 2


async def test_the_limit_that_is_told_fits_into_a_message(serve: Serve, publisher: Publisher) -> None:
    """What GetModel promises can be sent."""
    publisher.publish(1)
    async with serve(max_image_count=2000, max_message_bytes=2**20) as running:
        count = (await running.client.model()).max_image_count
        answer = await running.client.classify(np.zeros((count, 28, 28), np.uint8))
    assert len(answer.digits) == count > 1300


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
async def test_it_listens_where_it_is_told(serve: Serve, publisher: Publisher, host: str) -> None:
    """Names, IPv4 and IPv6."""
    publisher.publish(1)
    async with serve(host=host) as running:
        shown = f"[{host}]" if ":" in host else host
        async with AsyncDigitClient(f"{shown}:{running.server.port}") as client:
            assert (await client.model()).version == 1


async def test_a_deadline_is_kept(serve: Serve, publisher: Publisher, images: Images) -> None:
    """A call without time fails with DeadlineError, and the server goes on."""
    publisher.publish(1)
    async with serve() as running:
        with pytest.raises(DeadlineError):
            await running.client.classify(images, timeout_s=0.0001)
        assert (await running.client.classify(images[0])).digits.tolist() == [7]


async def test_a_full_queue_is_refused_with_a_time_to_come_back(
    serve: Serve, publisher: Publisher, images: Images
) -> None:
    """RESOURCE_EXHAUSTED for what does not fit, answers for what does."""
    publisher.publish(1)
    async with serve(max_queue_images=128, max_image_count=128, concurrent_runs=1) as running:
        calls = (running.client.classify(images[:128]) for _ in range(50))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert (await running.client.classify(images[0])).digits.tolist() == [7]
    refused = [answer for answer in answers if isinstance(answer, Exception)]
    assert {type(error) for error in refused} == {OverloadedError}
    assert all(isinstance(error, OverloadedError) and error.retry_after_s for error in refused)
    assert len(refused) < len(answers)


async def test_cancelled_calls_leave_the_server_well(
    serve: Serve, publisher: Publisher, images: Images, sessions: Mapping[int, Session]
) -> None:
    """Half of a hundred calls are cancelled; the other half get their answers."""
    publisher.publish(1)
    async with serve(max_queue_images=20_000, max_queue_ms=10_000) as running:  # room for all, if none were cancelled
        calls = [asyncio.create_task(running.client.classify(images[:100])) for _ in range(100)]
        await asyncio.sleep(0.01)
        for call in calls[::2]:
            call.cancel()
        answers = await asyncio.gather(*calls[1::2])
        await asyncio.gather(*calls[::2], return_exceptions=True)
        assert all(is_right(answer, images[:100], sessions) for answer in answers)
        assert (await running.client.classify(images[0])).digits.tolist() == [7]


async def test_health_can_be_watched(serve: Serve, publisher: Publisher) -> None:
    """Watch tells of the change from NOT_SERVING to SERVING."""
    async with serve() as running, grpc.aio.insecure_channel(running.address) as channel:
        stream = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        statuses = [(await stream.read()).status]
        publisher.publish(1)
        statuses.append((await stream.read()).status)
        stream.cancel()
    assert statuses == [health_pb2.HealthCheckResponse.NOT_SERVING, health_pb2.HealthCheckResponse.SERVING]


async def test_reflection_names_the_services(serve: Serve, transport: str) -> None:
    """grpcurl needs no .proto file."""
    async with serve() as running, grpc.aio.insecure_channel(running.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        response = await stub.ServerReflectionInfo(iter([request])).read()
    names = {service.name for service in response.list_services_response.service}
    versions = {"v1", "v1alpha"} if transport == "http2" else {"v1alpha"}
    reflection = {f"grpc.reflection.{version}.ServerReflection" for version in versions}
    assert names == {SERVICE, "grpc.health.v1.Health", *reflection}


async def test_two_servers_cannot_share_a_port_unnoticed(serve: Serve) -> None:
    """The second one fails at start, and says what to do."""
    async with serve() as running:
        with pytest.raises(OSError, match="the port free"):
            async with serve(port=running.server.port):
                pass


class FailingService:
    """A service whose methods raise what no service should."""

    descriptor = digits_pb2.DESCRIPTOR.services_by_name["DigitService"]

    def __init__(self) -> None:
        self.methods = {"Classify": self.fail, "GetModel": self.fail, "GetFeatureMaps": self.fail}

    async def fail(self, _request: Message, _call: Call) -> Message:
        """Raise with something that must not get out."""
        raise RuntimeError("the password is 1234")


async def test_an_unexpected_exception_never_leaves_the_server() -> None:
    """INTERNAL, a fixed sentence and a request id."""
    transport = HttpTransport([FailingService()], Dispatcher(), limits=Limits())
    port = await transport.start("127.0.0.1", 0)
    try:
        async with AsyncDigitClient(f"127.0.0.1:{port}") as client:
            with pytest.raises(InternalError) as error:
                await client.model()
    finally:
        await transport.stop(0)
    assert "1234" not in str(error.value)
    assert error.value.metadata["request_id"] in error.value.message


async def test_every_failure_is_an_error_of_ours(images: Images) -> None:
    """Nobody listens: still a ServingError, not grpcio's."""
    async with AsyncDigitClient("127.0.0.1:1") as client:
        with pytest.raises(ServingError):
            await client.classify(images[0], timeout_s=1)


async def health(address: str, service: str = "") -> str:
    """What the health service says."""
    async with grpc.aio.insecure_channel(address) as channel:
        response = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
    return str(health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))


async def test_get_model_takes_an_empty_request(serve: Serve, publisher: Publisher) -> None:
    """The generated message and our client agree."""
    publisher.publish(1)
    async with serve() as running, grpc.aio.insecure_channel(running.address) as channel:
        content = await unary(channel, "GetModel")(GetModelRequest().SerializeToString())
    response = digits_pb2.GetModelResponse.FromString(content)
    assert response.created.seconds > 0
    assert response.loaded.seconds >= response.created.seconds
