"""`--transport grpcio`, the insurance for one release: it starts, answers, tells of its health, and drains."""

import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from serving.client import DigitClient
from serving.errors import DrainingError, InvalidRequestError, UnavailableError, UnknownVersionError
from serving.pixels import Images
from serving.session import Session
from tests.programs import ServerProcess, server_process
from tests.serving.conftest import Publisher, is_right

OPTIONS = ("--transport", "grpcio", "--provider", "cpu", "--poll-ms", "20")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of version 1, for the tests that only read."""
    folder = tmp_path_factory.mktemp("grpcio")
    publisher = Publisher(folder / "repository")
    publisher.publish(1)
    with server_process(publisher.root, folder / "log", *OPTIONS, "--drain-linger-s", "0") as server:
        yield server


def test_it_answers_calls(shared: ServerProcess, images: Images, sessions: Mapping[int, Session]) -> None:
    """One image, and more than a batch."""
    with DigitClient(shared.address) as client:
        for count in (1, 500):
            assert is_right(client.classify(images[:count]), images[:count], sessions)


def test_callers_at_the_same_time_share_batches(shared: ServerProcess, images: Images) -> None:
    """Each gets its own answers."""
    answers: dict[int, Any] = {}

    def call(index: int) -> None:
        with DigitClient(shared.address) as client:
            answers[index] = client.classify(images[index : index + 2]).digits.tolist()

    threads = [threading.Thread(target=call, args=(index,)) for index in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with DigitClient(shared.address) as client:
        expected = client.classify(images[:17]).digits.tolist()
    assert answers == {index: expected[index : index + 2] for index in range(16)}


def test_it_describes_the_model(shared: ServerProcess) -> None:
    """GetModel."""
    with DigitClient(shared.address) as client:
        assert client.model().version == 1


def test_errors_have_their_details(shared: ServerProcess, images: Images) -> None:
    """The client raises what the server meant."""
    with DigitClient(shared.address) as client:
        with pytest.raises(InvalidRequestError, match="image_count: came 0") as error:
            client.classify(images[:0])
        assert error.value.field == "image_count"
        with pytest.raises(UnknownVersionError):
            client.model(model_version=7)


def test_an_unknown_method_is_unimplemented(shared: ServerProcess) -> None:
    """As everywhere."""
    with grpc.insecure_channel(shared.address) as channel:
        method: Any = channel.unary_unary("/digits.v1.DigitService/Nothing")
        with pytest.raises(grpc.RpcError) as error:
            method(b"")
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_health_is_told_and_watched(shared: ServerProcess) -> None:
    """By Check, and by a stream."""
    request = health_pb2.HealthCheckRequest(service="digits.v1.DigitService")
    with grpc.insecure_channel(shared.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert stub.Check(request).status == health_pb2.HealthCheckResponse.SERVING
        watch = stub.Watch(request)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()


def test_reflection_names_the_service(shared: ServerProcess) -> None:
    """For grpcurl."""
    with grpc.insecure_channel(shared.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        response = next(stub.ServerReflectionInfo(iter([request])))
    assert "digits.v1.DigitService" in {service.name for service in response.list_services_response.service}


def test_it_swaps_versions(publisher: Publisher, tmp_path: Path) -> None:
    """Without a restart."""
    publisher.publish(1)
    with server_process(publisher.root, tmp_path / "log", *OPTIONS) as server, DigitClient(server.address) as client:
        publisher.publish(2)
        while client.model().version != 2:
            pass


def classify_on(client: DigitClient, images: Images) -> None:
    """Until it is rejected."""
    while True:
        client.classify(images[:1])


@pytest.mark.parametrize("options", [(), ("--workers", "2")], ids=["one process", "two"])
def test_it_drains(publisher: Publisher, images: Images, tmp_path: Path, options: tuple[str, ...]) -> None:
    """Answers, then its own word that it drains; the exit code is 0."""
    publisher.publish(1)
    with server_process(publisher.root, tmp_path / "log", *OPTIONS, "--drain-linger-s", "2", *options) as server:
        with DigitClient(server.address) as client:
            client.classify(images[:1])
            server.process.send_signal(signal.SIGTERM)
            with pytest.raises((DrainingError, UnavailableError)):
                classify_on(client, images)
        assert server.process.wait(60) == 0
