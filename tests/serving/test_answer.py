"""Answers in bytes are the bytes that protobuf would write."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.digits.v1.digits_pb2 import ClassifyResponse
from serving.answer import encode, pixels_field


@pytest.mark.parametrize("classes", [2, 10, 128, 256])
@pytest.mark.parametrize("images", [1, 3, 15, 200, 20_000])
def test_an_answer_is_protobufs_own_byte_for_byte(classes: int, images: int) -> None:
    """Also where labels or lengths need more than one byte."""
    generator = np.random.default_rng(classes * images)
    probabilities = generator.random((images, classes), np.float32)
    labels = probabilities.argmax(axis=1)
    about = ClassifyResponse(model_name="digits", model_version=300, provider="CPUExecutionProvider")
    expected = ClassifyResponse(digits=labels.tolist(), probabilities=probabilities.ravel().tolist())
    expected.MergeFrom(about)
    assert encode(probabilities, [images], about.SerializeToString()) == [expected.SerializeToString()]


@pytest.mark.parametrize("classes", [10, 256])
@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_each_call_of_a_batch_gets_its_own_part(classes: int, counts: list[int]) -> None:
    """The same bytes as if it had been alone."""
    probabilities = np.random.default_rng(1).random((sum(counts), classes), np.float32)
    parts = np.split(probabilities, np.cumsum(counts)[:-1])
    expected = [encode(part, [len(part)], b"about")[0] for part in parts]
    assert encode(probabilities, counts, b"about") == expected


@pytest.mark.parametrize("image_count", [1, 200])
def test_pixels_stand_where_protobuf_would_have_them(image_count: int) -> None:
    """Behind everything else, with a length of two or three bytes."""
    pixels = bytes(range(196)) * 4 * image_count
    about = ClassifyResponse(model_name="digits", model_version=1, provider="CPUExecutionProvider")
    expected = ClassifyResponse(digits=[0] * image_count, probabilities=[0] * image_count, pixels=pixels)
    expected.MergeFrom(about)
    (response,) = encode(np.zeros((image_count, 1), np.float32), [image_count], about.SerializeToString())
    assert response + pixels_field(pixels) == expected.SerializeToString()


def test_labels_that_are_all_zero_are_written_all_the_same() -> None:
    """A packed field holds zeros too."""
    response = ClassifyResponse.FromString(encode(np.zeros((3, 10), np.float32), [3], b"")[0])
    assert list(response.digits) == [0, 0, 0]
    assert len(response.probabilities) == 30
