"""Photos over a real server: answers with the images that the model saw, and refusals that stay with their call."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from protos.digits.v1.digits_pb2 import ClassifyRequest
from serving.client import DigitClient
from serving.errors import InvalidRequestError, OverloadedError
from serving.pixels import Images
from serving.session import Session
from tests.programs import ServerProcess, run_program
from tests.serving.conftest import Publisher, Serve, is_right
from tests.serving.photographs import photograph
from tests.serving.test_photos import blank, bomb
from tests.serving.test_pixels import PICTURE, png


@pytest.fixture
def photos(images: Images) -> list[bytes]:
    """Of the first five test images: 7, 2, 1, 0, 4."""
    return [photograph(image, np.random.default_rng(index)) for index, image in enumerate(images[:5])]


async def test_an_answer_holds_the_images_that_the_model_saw(
    serve: Serve, publisher: Publisher, photos: list[bytes], sessions: Mapping[int, Session]
) -> None:
    """Sent as pixels they get the same bits; where no photos were sent there are none."""
    publisher.publish(1)
    async with serve() as running:
        answer = await running.client.classify_photos(photos)
        assert answer.images is not None
        again = await running.client.classify(answer.images)
    assert answer.digits.tolist() == [7, 2, 1, 0, 4]
    assert answer.images.shape == (5, 28, 28)
    assert is_right(answer, answer.images, sessions)
    assert np.array_equal(again.probabilities, answer.probabilities)
    assert again.images is None


async def test_photos_are_prepared_for_the_model_that_answers(
    serve: Serve, publisher: Publisher, photos: list[bytes]
) -> None:
    """24 x 24 pixels where it takes those; a model that takes colour takes none."""
    publisher.publish(3)
    async with serve() as running:
        answer = await running.client.classify_photos(photos)
        publisher.publish(4)
        while (await running.client.model()).version != 4:
            await asyncio.sleep(0.02)
        with pytest.raises(InvalidRequestError, match="the model takes colour"):
            await running.client.classify_photos(photos)
    assert answer.images is not None
    assert answer.images.shape == (5, 24, 24)


BAD_REQUESTS: Mapping[str, tuple[ClassifyRequest, str, str]] = {
    "photos and pixels": (
        ClassifyRequest(image_count=1, pixels=bytes(784), photos=[b"x"]),
        "photos",
        "photos: came beside pixels, expected one of them",
    ),
    "photos and PNG files": (
        ClassifyRequest(encoded_images=[png(PICTURE)], photos=[b"x"]),
        "photos",
        "photos: came beside encoded_images, expected one of them",
    ),
    "all three": (
        ClassifyRequest(pixels=bytes(784), encoded_images=[b"x"], photos=[b"x"]),
        "photos",
        "photos: came beside pixels and encoded_images, expected one of them",
    ),
    "another count": (
        ClassifyRequest(image_count=2, photos=[b"x"]),
        "image_count",
        "image_count: came 2, expected 1, the number of photos, or 0",
    ),
    "too many": (ClassifyRequest(photos=[b"x"] * 1025), "image_count", "came 1025, expected 1 to 1024"),
    "a blank sheet": (ClassifyRequest(photos=[blank(200, 2)]), "photos[0]", "photos[0]: shows no ink"),
    "a bomb": (ClassifyRequest(photos=[bomb(60_000)]), "photos[0]", "expected 33554432 at most: scale it down"),
    "no picture": (ClassifyRequest(image_count=1, photos=[b"x"]), "photos[0]", "expected a PNG, JPEG or WebP file"),
    "a PNG file of another size": (
        ClassifyRequest(encoded_images=[png(PICTURE[:20])]),
        "encoded_images[0]",
        "or send it as one of photos",
    ),
}


async def test_a_wrong_request_is_told_what_is_wrong(serve: Serve, publisher: Publisher) -> None:
    """INVALID_ARGUMENT, with the field at fault in the message."""
    publisher.publish(1)
    async with serve() as running, grpc.aio.insecure_channel(running.address) as channel:
        classify: Any = channel.unary_unary("/digits.v1.DigitService/Classify")
        for case, (request, field, message) in BAD_REQUESTS.items():
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await classify(request.SerializeToString())
            assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT, case
            assert str(error.value.details()).startswith(f"{field}: "), case
            assert message in str(error.value.details()), case


async def test_a_bad_photo_leaves_its_neighbours_alone(
    serve: Serve, publisher: Publisher, photos: list[bytes], images: Images, sessions: Mapping[int, Session]
) -> None:
    """The second of two photos is at fault, and named; calls beside it get their own answers."""
    publisher.publish(1)
    async with serve() as running:
        bad = running.client.classify_photos([photos[0], photos[1][:200]])
        calls = [running.client.classify_photos(photos) for _ in range(4)]
        pixels = [running.client.classify(images[index]) for index in range(20)]
        refused, *answers = await asyncio.gather(bad, *calls, *pixels, return_exceptions=True)
    assert isinstance(refused, InvalidRequestError)
    assert refused.field == "photos[1]"
    for answer in answers[:4]:
        assert not isinstance(answer, BaseException)
        assert answer.digits.tolist() == [7, 2, 1, 0, 4]
    for index, answer in enumerate(answers[4:]):
        assert not isinstance(answer, BaseException)
        assert is_right(answer, images[index : index + 1], sessions)


async def test_too_many_photos_are_refused_before_they_are_decoded(
    serve: Serve, publisher: Publisher, photos: list[bytes]
) -> None:
    """What waits is bounded, and what is cancelled makes room."""
    publisher.publish(1)
    async with serve(max_queue_images=10, max_image_count=10) as running:
        calls = (running.client.classify_photos(photos) for _ in range(12))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert OverloadedError in {type(answer) for answer in answers}
        assert (await running.client.classify_photos(photos * 2)).digits.tolist() == [7, 2, 1, 0, 4] * 2


def test_the_command_line_takes_photos(served: ServerProcess, photos: list[bytes], tmp_path: Path) -> None:
    """With --photo: one line a file; what is wrong is told with the file's name."""
    for name, content in (("seven.jpg", photos[0]), ("two.jpg", photos[1]), ("none.jpg", blank(200, 2))):
        (tmp_path / name).write_bytes(content)
    arguments = ("serving", "classify", "--photo", "--server", served.address)
    done = run_program(*arguments, tmp_path / "seven.jpg", tmp_path / "two.jpg")
    assert done.returncode == 0, done.stderr
    assert [line.split(" (")[0] for line in done.stdout.splitlines()] == [
        f"{tmp_path / 'seven.jpg'}: 7",
        f"{tmp_path / 'two.jpg'}: 2",
    ]
    refused = run_program(*arguments, tmp_path / "none.jpg")
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"classify: {tmp_path / 'none.jpg'}: photos[0]: shows no ink")


def test_the_sync_client_takes_photos(served: ServerProcess, photos: list[bytes]) -> None:
    """As the async one does."""
    with DigitClient(served.address) as client:
        answer = client.classify_photos(photos)
    assert answer.digits.tolist() == [7, 2, 1, 0, 4]
    assert answer.images is not None
    assert answer.images.dtype == np.uint8
