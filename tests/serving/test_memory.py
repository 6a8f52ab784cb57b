"""No memory left, at load and at run: the old version goes on, who asked for too much is told, nobody else notices."""

import asyncio
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from serving.client import AsyncDigitClient
from serving.errors import DeviceMemoryError
from serving.pixels import Images
from tests.serving.conftest import VERSIONS, Publisher, Serve
from tests.serving.grafts import rename

onnx = pytest.importorskip("onnx", reason="a model that wants too much memory is written with onnx")

RARE = (3, 141, 59)  # the first pixels of no image but one
BLANK = (0, 0, 0)  # those of every image that a version is tried with
TOO_MUCH = 2**38  # floats: a TiB


def greedy(version: int, begin: tuple[int, int, int]) -> bytes:
    """A version's model that asks for a TiB where an image of the batch begins with these pixels."""
    from onnx import TensorProto, helper, numpy_helper

    graph = onnx.load_model(VERSIONS / str(version) / "model.onnx")
    constants: dict[str, NDArray[Any]] = {
        "begin": np.array(begin, np.uint8),
        "from": np.array([0, 0], np.int64),
        "to": np.array([1, len(begin)], np.int64),
        "axes": np.array([1, 2], np.int64),
        "too_much": np.array([TOO_MUCH], np.int64),
    }
    graph.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    rename(graph.graph, "logits", "modest_logits")
    make = helper.make_node
    graph.graph.node.extend(
        [
            make("Slice", ["images", "from", "to", "axes"], ["first_pixels"]),
            make("Equal", ["first_pixels", "begin"], ["same"]),
            make("Cast", ["same"], ["same_number"], to=TensorProto.FLOAT),
            make("ReduceMin", ["same_number", "axes"], ["is_greedy"], keepdims=0),
            make("ReduceMax", ["is_greedy"], ["any_is_greedy"], keepdims=0),
            make("Cast", ["any_is_greedy"], ["count"], to=TensorProto.INT64),
            make("Mul", ["too_much", "count"], ["room_shape"]),
            make("ConstantOfShape", ["room_shape"], ["room"]),
            make("ReduceSum", ["room"], ["nothing"], keepdims=0),
            make("Add", ["modest_logits", "nothing"], ["logits"]),
        ]
    )
    content: bytes = graph.SerializeToString()
    return content


def wants_too_much(images: Images) -> Images:
    """One image that does."""
    image = images[:1].copy()
    image[0, 0, : len(RARE)] = RARE
    return image


async def test_a_version_for_which_there_is_no_memory_is_refused(
    serve: Serve, publisher: Publisher, images: Images
) -> None:
    """The old version goes on, and says why the new one does not."""
    publisher.publish(1)
    async with serve() as running:
        publisher.publish_copy(9, of=2, model=greedy(2, BLANK))
        async with asyncio.timeout(20):
            while not (model := await running.client.model()).refusal:
                await asyncio.sleep(0.02)
        assert "no memory left" in model.refusal
        assert (await running.client.classify(images[:5])).model_version == 1


async def test_only_the_call_that_wants_too_much_is_told(serve: Serve, publisher: Publisher, images: Images) -> None:
    """Sixty-four calls in few batches: one fails by its name, the others get their digits."""
    publisher.publish_copy(9, of=1, model=greedy(1, RARE))
    async with serve() as running:

        async def call(client: AsyncDigitClient, number: int) -> int | DeviceMemoryError:
            batch = wants_too_much(images) if number == 30 else images[number : number + 1]
            try:
                return int((await client.classify(batch)).digits[0])
            except DeviceMemoryError as error:
                return error

        came = await asyncio.gather(*map(partial(call, running.client), range(64)))
        assert [number for number, answer in enumerate(came) if not isinstance(answer, int)] == [30]
        assert "send fewer in a call" in str(came[30])
        assert (await running.client.classify(images[:5])).model_version == 9
