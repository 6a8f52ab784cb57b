"""The Python client, against the server program."""

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from serving.client import AsyncDigitClient, DigitClient
from serving.errors import InvalidRequestError, ServingError, UnavailableError
from serving.pixels import Images
from serving.session import Session
from tests.programs import ROOT, ServerProcess
from tests.serving.conftest import is_right


@pytest.fixture
def client(served: ServerProcess) -> Iterator[DigitClient]:
    """A client of the server program."""
    with DigitClient(served.address) as client:
        yield client


def test_the_sync_client_classifies(client: DigitClient, images: Images, sessions: Mapping[int, Session]) -> None:
    """numpy in, typed results out, a thousand images in one call."""
    answer = client.classify(images)
    assert is_right(answer, images, sessions)
    assert answer.digits.dtype == np.int32
    assert answer.probabilities.dtype == np.float32
    assert np.array_equal(answer.confidences, answer.probabilities.max(axis=1))
    assert client.model().version == 1


def test_the_servers_detail_reaches_the_caller(client: DigitClient) -> None:
    """Field, message and values."""
    with pytest.raises(InvalidRequestError, match="came 1 bytes, expected 784") as error:
        client.classify(np.zeros((1, 1, 1), np.uint8))
    assert error.value.field == "pixels"
    assert error.value.metadata == {"came_bytes": "1", "expected_bytes": "784"}


@pytest.mark.parametrize(
    "images",
    [np.zeros((1, 28, 28), np.float32), np.zeros(784, np.uint8), np.zeros((1, 1, 28, 28), np.uint8)],
    ids=["floats", "flat", "28 bytes a pixel"],
)
def test_what_cannot_be_images_is_refused_before_it_is_sent(images: np.ndarray) -> None:
    """A float in [0, 1] sent as bytes would be answered, and wrong."""
    with DigitClient("127.0.0.1:1") as client, pytest.raises(ValueError, match="expected uint8"):
        client.classify(images)


def test_nobody_there_is_unavailable() -> None:
    """An exception of ours, within the timeout."""
    with DigitClient("127.0.0.1:1", timeout_s=1) as client, pytest.raises(UnavailableError):
        client.model()


def test_waiting_for_a_server_ends() -> None:
    """When none comes, the last reason is raised."""
    with DigitClient("127.0.0.1:1") as client, pytest.raises(UnavailableError):
        client.wait_until_serving(within_s=0.2)


async def test_both_clients_give_the_same(served: ServerProcess, client: DigitClient, images: Images) -> None:
    """Sync and async are one client."""
    async with AsyncDigitClient(served.address) as other:
        answer = await other.classify(images[:9])
        assert await other.model() == client.model()
        assert (await other.wait_until_serving(within_s=1)).version == 1
    assert np.array_equal(answer.probabilities, client.classify(images[:9]).probabilities)


def test_the_client_needs_neither_onnxruntime_nor_torch() -> None:
    """It can be installed where nothing runs a model."""
    code = "import sys; sys.modules.update(onnxruntime=None, torch=None, PIL=None); import serving.client"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_waiting_for_a_server_that_hangs_ends(served: ServerProcess) -> None:
    """A stopped process answers nothing, and is no reason to wait for ever."""
    served.signal_all(signal.SIGSTOP)
    with DigitClient(served.address) as client, pytest.raises(ServingError):
        client.wait_until_serving(within_s=0.5)
    served.signal_all(signal.SIGCONT)


def test_a_request_that_no_retry_can_mend_is_an_invalid_one(client: DigitClient) -> None:
    """Six thousand images exceed the largest message: not "overloaded, try again"."""
    with pytest.raises(InvalidRequestError, match="send fewer images a call"):
        client.classify(np.zeros((6000, 28, 28), np.uint8))
