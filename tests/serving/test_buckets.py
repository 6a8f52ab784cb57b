"""Batches of fixed sizes from fixed memory: the same answers as a plain run. On the CPU; tests/gpu has the card."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from serving.buckets import Buckets, PageLocked, bucket_size
from serving.pixels import Images
from serving.provider import CPU, create_session
from serving.session import Session
from serving.versions.manifest import Version


@pytest.fixture
def buckets(versions: Mapping[int, Version]) -> Buckets:
    """Version 1, for two threads at a time."""
    runtime = create_session("model.onnx", versions[1].model, CPU, threads=1)
    return Buckets(runtime, (28, 28), device="cpu", lanes=2)


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (129, 256), (1024, 1024)])
def test_a_batch_goes_into_the_next_power_of_two(count: int, size: int) -> None:
    """A bucket is at most twice what it holds."""
    assert bucket_size(count) == size


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 129])
def test_the_answers_are_those_of_a_plain_run(
    buckets: Buckets, sessions: Mapping[int, Session], images: Images, count: int
) -> None:
    """Bit for bit, whatever fills the bucket up."""
    buckets.run(images[-128:])  # something else to lie behind the images
    outputs, expected = buckets.run(images[:count]), sessions[1].run(images[:count])
    assert np.array_equal(outputs["logits"], expected.logits)
    assert np.array_equal(outputs["probabilities"], expected.probabilities)


def test_an_answer_stays_what_it_is(buckets: Buckets, images: Images) -> None:
    """The memory that a run writes into is not what its caller holds."""
    first = buckets.run(images[:3])["probabilities"]
    before = first.copy()
    buckets.set_up(4)
    buckets.run(images[3:6])
    buckets.run(images[6:9])
    assert np.array_equal(first, before)


def test_threads_do_not_mix(buckets: Buckets, sessions: Mapping[int, Session], images: Images) -> None:
    """Four threads share two lanes, two hundred runs, each with images of its own."""
    expected = sessions[1].run(images).probabilities
    starts = [7 * number % 900 for number in range(200)]
    with ThreadPoolExecutor(4) as pool:
        came = list(pool.map(lambda start: buckets.run(images[start : start + 5])["probabilities"], starts))
    for start, probabilities in zip(starts, came, strict=True):
        assert np.array_equal(probabilities, expected[start : start + 5])


def test_a_run_that_fails_gives_its_lane_back(buckets: Buckets, images: Images) -> None:
    """Images of another size fail, as often as one likes, and the next run works."""
    for _ in range(5):
        with pytest.raises(ValueError, match="broadcast"):
            buckets.run(images[:2, :20])
    assert len(buckets.run(images[:2])["logits"]) == 2


def test_locked_pages_are_zeros_to_write_on() -> None:
    """Also where there is no CUDA to lock them."""
    memory = PageLocked((3, 5, 7))
    assert memory.array.shape == (3, 5, 7)
    assert not memory.array.any()
    memory.array[2, 4, 6] = 255
    assert memory.array.sum() == 255
