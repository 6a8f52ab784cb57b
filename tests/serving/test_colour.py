"""A version that takes colour images is served as one that takes grey: by pixels, by PNG, through swaps."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from serving.errors import InvalidRequestError
from serving.idx import read_images
from serving.pixels import Images
from serving.session import Session
from serving.versions.manifest import Version
from tests.pipeline.idx_files import encode_idx
from tests.programs import run_program, server_process
from tests.serving.conftest import Publisher, Serve, is_right
from tests.serving.swaps import swap_under_load
from tests.serving.test_pixels import png

LETTERS = ("A", "B", "C", "D", "E")


@pytest.fixture
def colours(versions: Mapping[int, Version]) -> Images:
    """The images of version 4's known answers, uint8 (64, 20, 20, 3)."""
    return versions[4].known_answers.images


async def test_the_model_is_described_with_its_channels_and_names(serve: Serve, publisher: Publisher) -> None:
    """A client learns all that it must know to call it; the limit of a call counts three bytes a pixel."""
    publisher.publish(4)
    async with serve(max_message_bytes=64 + 7 * 20 * 20 * 3) as running:
        model = await running.client.model()
    assert (model.image_height, model.image_width, model.image_channels) == (20, 20, 3)
    assert model.labels == LETTERS
    assert model.max_image_count == 7


async def test_a_grey_model_says_so(serve: Serve, publisher: Publisher) -> None:
    """One byte a pixel."""
    publisher.publish(1)
    async with serve() as running:
        assert (await running.client.model()).image_channels == 1


async def test_pixels_and_png_files_get_the_same_answers(
    serve: Serve, publisher: Publisher, colours: Images, sessions: Mapping[int, Session]
) -> None:
    """Red, green, blue in this order, in both."""
    publisher.publish(4)
    async with serve() as running:
        by_pixels = await running.client.classify(colours)
        by_png = await running.client.classify_png([png(image) for image in colours])
    assert is_right(by_pixels, colours, sessions)
    assert is_right(by_png, colours, sessions)


async def test_a_grey_png_becomes_colour(
    serve: Serve, publisher: Publisher, colours: Images, sessions: Mapping[int, Session]
) -> None:
    """The same number in all three channels."""
    publisher.publish(4)
    grey = np.ascontiguousarray(colours[:5, :, :, 1])
    async with serve() as running:
        answer = await running.client.classify_png([png(image) for image in grey])
    assert is_right(answer, np.repeat(grey[..., np.newaxis], 3, axis=3), sessions)


@pytest.mark.parametrize(
    ("version", "images", "message"),
    [
        pytest.param(
            4, np.zeros((2, 20, 20), np.uint8), "came 800 bytes.*2 images of 20 x 20 x 3", id="grey to colour"
        ),
        pytest.param(
            1, np.zeros((2, 28, 28, 3), np.uint8), "came 4704 bytes.*2 images of 28 x 28 b", id="colour to grey"
        ),
        pytest.param(
            4, np.zeros((20, 20, 3), np.uint8), "20 images of 20 x 20 x 3", id="one colour image without a batch"
        ),
    ],
)
async def test_images_of_the_other_kind_are_refused(
    serve: Serve, publisher: Publisher, version: int, images: Images, message: str
) -> None:
    """The message says what came and what was expected; nothing is ever taken for something else."""
    publisher.publish(version)
    async with serve() as running:
        with pytest.raises(InvalidRequestError, match=message):
            await running.client.classify(images)


async def test_swaps_between_grey_and_colour_lose_nothing(
    serve: Serve, publisher: Publisher, images: Images, colours: Images, sessions: Mapping[int, Session]
) -> None:
    """Callers of both kinds through four swaps: right answers of a version of their kind, or the expected bytes."""
    calls = [
        (version, mine[:image_count]) for version, mine in ((1, images), (4, colours)) for image_count in (1, 5, 60)
    ]
    await swap_under_load(serve, publisher, sessions, calls, (4, 1, 4, 1))


def test_the_command_line_answers_with_names(
    publisher: Publisher, colours: Images, versions: Mapping[int, Version], tmp_path: Path
) -> None:
    """An IDX file of four dimensions and a PNG file; the label stands in the output."""
    publisher.publish(4)
    named = [LETTERS[index] for index in versions[4].known_answers.probabilities.argmax(axis=1)]
    (tmp_path / "images").write_bytes(encode_idx(colours))
    (tmp_path / "one.png").write_bytes(png(colours[-1]))
    with server_process(publisher.root, tmp_path / "log", "--provider", "cpu") as server:
        done = run_program("serving", "classify", tmp_path / "images", tmp_path / "one.png", "--server", server.address)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(": ")[1].split(" ")[0] for line in lines] == [*named, named[-1]]


def test_an_idx_file_of_other_pixels_is_refused(tmp_path: Path) -> None:
    """Four bytes a pixel are neither grey nor colour."""
    (tmp_path / "images").write_bytes(encode_idx(np.zeros((1, 2, 2, 4), np.uint8)))
    with pytest.raises(ValueError, match="holds pixels of 4 bytes, expected 3"):
        read_images(tmp_path / "images")
