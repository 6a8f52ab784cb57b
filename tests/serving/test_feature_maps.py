"""What the network sees: the feature maps behind each layer of one image, from the version that would answer."""

import asyncio
import base64
import gc
import json
import weakref
from collections.abc import Callable, Mapping

import grpc
import numpy as np
import onnxruntime
import pytest
from google.rpc import code_pb2
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from protos.digits.v1.digits_pb2 import GetFeatureMapsRequest, GetFeatureMapsResponse
from serving.client import AsyncDigitClient, DigitClient, FeatureMaps
from serving.errors import STATUSES, NoFeatureMapsError, OverloadedError, UnknownVersionError
from serving.feature_maps import to_message
from serving.pixels import Images
from serving.provider import CPU
from serving.session import Session
from serving.versions.manifest import Version
from serving.versions.repository import Repository
from tests.programs import ServerProcess
from tests.serving.conftest import VERSIONS, Publisher, Serve, is_right
from tests.serving.swaps import follow
from tests.serving.test_envoy import ask
from tests.serving.test_metrics import scrape
from tests.serving.test_server import unary

Maps = NDArray[np.float32]

LAYERS = ["convolution 1", "pooling 1", "convolution 2", "pooling 2"]
ROUNDING = 1 / 510
"""How far a value may be off, as a share of its layer's range: half a byte."""
FLOAT32 = 1e-6
"""The rounding of float32 beside that, as a share of the range."""


def by_hand(version: int, image: Images) -> dict[str, Maps]:
    """What onnxruntime makes of features.onnx and one image: float32 (feature, row, column) by the layer's name."""
    runtime = onnxruntime.InferenceSession(VERSIONS / str(version) / "features.onnx", providers=[CPU])
    names = [output.name for output in runtime.get_outputs()]
    return {name: maps[0] for name, maps in zip(names, runtime.run(names, {"images": image[np.newaxis]}), strict=True)}


def are_right(came: FeatureMaps, expected: Mapping[str, Maps]) -> bool:
    """Whether these are those maps, as exactly as a byte a value can tell."""
    return list(came.layers) == list(expected) and all(
        came.layers[name].shape == maps.shape
        and bool(np.abs(came.layers[name] - maps).max() <= (ROUNDING + FLOAT32) * np.ptp(maps))
        for name, maps in expected.items()
    )


async def test_each_layer_shows_its_maps(serve: Serve, publisher: Publisher, images: Images) -> None:
    """From the image to the readout, as onnxruntime gives them by hand; the answer names its maker."""
    publisher.publish(1)
    async with serve() as running:
        answers = [await running.client.feature_maps(image) for image in images[:5]]
    assert list(answers[0].layers) == LAYERS
    assert [maps.shape for maps in answers[0].layers.values()] == [(4, 28, 28), (4, 14, 14), (8, 14, 14), (8, 7, 7)]
    assert all(are_right(answer, by_hand(1, image)) for image, answer in zip(images[:5], answers, strict=True))
    assert (answers[0].model_name, answers[0].model_version, answers[0].provider) == ("digits", 1, CPU)


def windows(maps: Maps) -> Maps:
    """The windows of 2 x 2 of each map: (feature, row, column, 4)."""
    features, rows, columns = maps.shape
    parted = maps.reshape(features, rows // 2, 2, columns // 2, 2)
    return parted.transpose(0, 1, 3, 2, 4).reshape(features, rows // 2, columns // 2, 4)


async def test_average_pooling_is_the_mean_of_its_convolution(
    serve: Serve, publisher: Publisher, images: Images
) -> None:
    """Equation (7) of the lab, by numpy, on what came over the wire: within 1/255 of the convolution's range."""
    publisher.publish(1)
    async with serve() as running:
        layers = (await running.client.feature_maps(images[0])).layers
    for number in (1, 2):
        convolved, pooled = layers[f"convolution {number}"], layers[f"pooling {number}"]
        assert convolved.min() == 0  # behind a ReLU
        assert np.abs(pooled - windows(convolved).mean(axis=3)).max() <= np.ptp(convolved) / 255


async def test_colour_images_are_looked_into(serve: Serve, publisher: Publisher) -> None:
    """Version 4 takes letters in colour, and keeps the largest pixel of each window."""
    publisher.publish(4)
    image = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    async with serve() as running:
        answer = await running.client.feature_maps(image)
    assert are_right(answer, by_hand(4, image))
    convolved, pooled = answer.layers["convolution 1"], answer.layers["pooling 1"]
    assert np.abs(pooled - windows(convolved).max(axis=3)).max() <= np.ptp(convolved) / 255


async def test_a_swap_under_way_mixes_nothing(serve: Serve, publisher: Publisher, images: Images) -> None:
    """Four who look through four swaps: no error, and the maps are those of the version that an answer names."""
    publisher.publish(1)
    stop = asyncio.Event()

    async def look_on(client: AsyncDigitClient, image: Images) -> set[int]:
        expected, seen = {version: by_hand(version, image) for version in (1, 2)}, set()
        while not stop.is_set():
            answer = await client.feature_maps(image)
            assert are_right(answer, expected[answer.model_version])
            seen.add(answer.model_version)
        return seen

    async with asyncio.timeout(60), serve() as running:
        lookers = [asyncio.create_task(look_on(running.client, image)) for image in images[:4]]
        for version in (2, 1, 2, 1):
            publisher.publish(version)
            await follow(running.client, version)
        stop.set()
        seen = await asyncio.gather(*lookers)
    assert set.union(*seen) == {1, 2}


async def test_a_version_is_looked_into_by_its_number(serve: Serve, publisher: Publisher, images: Images) -> None:
    """Those that are loaded; the others are NOT_FOUND, with the versions that are."""
    publisher.publish(1)
    publisher.publish(2)
    async with serve(versions="current,previous") as running:
        for version in (1, 2):
            answer = await running.client.feature_maps(images[0], model_version=version)
            assert answer.model_version == version
            assert are_right(answer, by_hand(version, images[0]))
        with pytest.raises(UnknownVersionError, match="version 3 is not loaded; expected one of 1, 2"):
            await running.client.feature_maps(images[0], model_version=3)


async def test_a_version_without_them_says_so(
    serve: Serve, publisher: Publisher, images: Images, sessions: Mapping[int, Session]
) -> None:
    """NOT_FOUND, and what to do; it answers as ever."""
    publisher.publish_copy(1, of=1, features="none")
    async with serve() as running:
        with pytest.raises(NoFeatureMapsError, match="published without them; publish it anew") as error:
            await running.client.feature_maps(images[0])
        assert is_right(await running.client.classify(images[:3]), images[:3], sessions)
    assert error.value.field == "model_version"
    assert STATUSES[NoFeatureMapsError] == (code_pb2.NOT_FOUND, "NO_FEATURE_MAPS")


BROKEN: dict[str, tuple[bytes, str]] = {
    "no ONNX file": (b"no model", "features.onnx: onnxruntime cannot load it: "),
    "empty": (b"", "features.onnx: onnxruntime cannot load it: "),
    "no maps": ((VERSIONS / "1" / "model.onnx").read_bytes(), "features.onnx: takes .* with 4 sizes"),
    "for other images": ((VERSIONS / "3" / "features.onnx").read_bytes(), "features.onnx: takes .* with 4 sizes"),
}


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_broken_file_costs_the_looks_and_not_the_answers(
    serve: Serve,
    publisher: Publisher,
    images: Images,
    sessions: Mapping[int, Session],
    warned: Callable[[], list[str]],
    kind: str,
) -> None:
    """Published so, with a hash that fits: who looks is told, every time; the log is told once."""
    content, message = BROKEN[kind]
    publisher.publish_copy(1, of=1, features=content)
    async with serve() as running:
        for _ in range(3):
            with pytest.raises(NoFeatureMapsError, match=f"version 1 has no feature maps to show: {message}"):
                await running.client.feature_maps(images[0])
        assert is_right(await running.client.classify(images[:3]), images[:3], sessions)
    logged = [line for line in warned() if "cannot show feature maps" in line]
    assert len(logged) == 1
    assert logged[0].startswith("version 1 cannot show feature maps: features.onnx: ")


@pytest.mark.parametrize("length", [0, 783, 785, 1568], ids=lambda length: f"{length} bytes")
async def test_exactly_one_image_is_looked_into(serve: Serve, publisher: Publisher, length: int) -> None:
    """INVALID_ARGUMENT names the pixels, what came and what was expected."""
    publisher.publish(1)
    request = GetFeatureMapsRequest(pixels=bytes(length)).SerializeToString()
    async with serve() as running, grpc.aio.insecure_channel(running.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match=f"pixels: came {length} bytes, expected 784") as error:
            await unary(channel, "GetFeatureMaps")(request)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_bytes_that_are_no_message_are_refused(serve: Serve, publisher: Publisher) -> None:
    """As for every method."""
    publisher.publish(1)
    async with serve() as running, grpc.aio.insecure_channel(running.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError, match=r"as digits\.v1\.GetFeatureMapsRequest"):
            await unary(channel, "GetFeatureMaps")(b"\xff\xff")


async def test_a_full_line_is_refused_with_a_time_to_come_back(
    serve: Serve, publisher: Publisher, images: Images
) -> None:
    """It is one's own: answers are given meanwhile."""
    publisher.publish(1)
    async with serve(max_queue_images=1, max_image_count=1) as running:
        looks = asyncio.gather(*(running.client.feature_maps(images[0]) for _ in range(100)), return_exceptions=True)
        assert (await running.client.classify(images[0])).digits.tolist() == [7]
        answers = await looks
    refused = [answer for answer in answers if isinstance(answer, OverloadedError)]
    shown = [answer for answer in answers if isinstance(answer, FeatureMaps)]
    assert refused
    assert shown
    assert len(refused) + len(shown) == 100
    assert all(error.retry_after_s and "looked into wait: 1 of at most 1" in error.message for error in refused)
    assert all(are_right(answer, by_hand(1, images[0])) for answer in shown)


async def test_looks_are_counted_like_other_calls(serve: Serve, publisher: Publisher, images: Images) -> None:
    """By method and code."""
    publisher.publish_copy(1, of=1, features="none")
    async with serve(metrics_port=0) as running:
        with pytest.raises(NoFeatureMapsError):
            await running.client.feature_maps(images[0])
        publisher.publish(2)
        await follow(running.client, 2)
        await running.client.feature_maps(images[0])
        samples = await scrape(running)
    for code in ("OK", "NOT_FOUND"):
        assert samples["serving_calls_total", code, "/digits.v1.DigitService/GetFeatureMaps"] == 1


def test_both_clients_look(served: ServerProcess, images: Images) -> None:
    """The sync one too; an array that is no image is refused before it is sent."""
    with DigitClient(served.address) as client:
        assert are_right(client.feature_maps(images[0]), by_hand(1, images[0]))
        for wrong in (images[:2], images[0].astype(np.float32), images[0].ravel(), np.zeros((4, 4, 4), np.uint8)):
            with pytest.raises(ValueError, match="expected one uint8 image"):
                client.feature_maps(wrong)


@pytest.mark.parametrize("transport", ["envoy"], indirect=True)
def test_a_page_gets_them_as_json(served: ServerProcess, images: Images) -> None:
    """POST /v1/feature-maps: bytes are base64, numbers are numbers."""
    body = json.dumps({"pixels": base64.b64encode(images[0].tobytes()).decode()}).encode()
    response, content = ask(served.address, "POST", "/v1/feature-maps", body)
    answer = json.loads(content)
    assert (response.status, answer["model_version"], answer["provider"]) == (200, 1, CPU)
    assert [layer["name"] for layer in answer["layers"]] == LAYERS
    for layer, maps in zip(answer["layers"], by_hand(1, images[0]).values(), strict=True):
        assert (layer["feature_count"], layer["height"], layer["width"]) == maps.shape
        assert (layer["minimum"], layer["maximum"]) == pytest.approx((maps.min(), maps.max()))
        assert len(base64.b64decode(layer["intensities"])) == maps.size
    response, content = ask(served.address, "POST", "/v1/feature-maps", b"{}")
    assert (response.status, json.loads(content)["code"]) == (400, code_pb2.INVALID_ARGUMENT)


async def test_they_are_loaded_when_somebody_looks_and_freed_with_their_version(
    publisher: Publisher, images: Images
) -> None:
    """A version that nobody looks into has one onnxruntime session; one that is retired has none left."""
    made: list[weakref.ref[object]] = []

    def load(version: Version) -> Session:
        session = Session(version, provider=CPU, threads=1)
        made.append(weakref.ref(session.features))
        return session

    repository = Repository(publisher.model.directory, load)
    publisher.publish(1)
    await repository.refresh()
    features = repository.session(0).features
    assert features._runtime is None
    features.look(images[:1])
    runtime = weakref.ref(features._runtime)
    del features
    publisher.publish(2)
    await repository.refresh()
    gc.collect()
    assert made[0]() is runtime() is None
    assert made[1]() is not None


FINITE = st.floats(-(2.0**100), 2.0**100, width=32)


@given(arrays.arrays(np.float32, arrays.array_shapes(min_dims=3, max_dims=3, max_side=5), elements=FINITE))
def test_values_come_back_within_half_a_byte(maps: Maps) -> None:
    """Whatever they are: negative, tiny, or all the same."""
    layer = to_message("some layer", maps)
    assert (layer.feature_count, layer.height, layer.width) == maps.shape
    assert (layer.minimum, layer.maximum) == (maps.min(), maps.max())
    assert layer == GetFeatureMapsResponse(layers=[layer]).layers[0]
    intensities = np.frombuffer(layer.intensities, np.uint8).reshape(maps.shape)
    restored = layer.minimum + intensities / 255 * (layer.maximum - layer.minimum)
    allowed = (ROUNDING + FLOAT32) * (layer.maximum - layer.minimum)
    assert np.abs(restored - maps.astype(np.float64)).max() <= allowed


def test_the_least_value_is_0_and_the_greatest_255() -> None:
    """Worked by hand; a layer that is the same everywhere is 0 everywhere."""
    layer = to_message("pooling 1", np.array([[[-1.0, 0.0]], [[1.0, 3.0]]], np.float32))
    assert layer.intensities == bytes([0, 64, 128, 255])
    assert to_message("pooling 1", np.full((2, 1, 2), 7, np.float32)).intensities == bytes(4)
