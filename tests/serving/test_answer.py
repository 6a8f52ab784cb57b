"""Answers in bytes are the bytes that protobuf would write."""

import numpy as np
import pytest

from protos.digits.v1.digits_pb2 import ClassifyResponse
from serving.answer import encode
from serving.session import Predictions


@pytest.mark.parametrize("classes", [2, 10, 128, 256])
@pytest.mark.parametrize("images", [1, 3, 15, 200, 20_000])
def test_an_answer_is_protobufs_own_byte_for_byte(classes: int, images: int) -> None:
    """Also where labels or lengths need more than one byte."""
    generator = np.random.default_rng(classes * images)
    probabilities = generator.random((images, classes), np.float32)
    labels = generator.integers(0, classes, images)
    about = ClassifyResponse(model_name="digits", model_version=300, provider="CPUExecutionProvider")
    expected = ClassifyResponse(digits=labels.tolist(), probabilities=probabilities.ravel().tolist())
    expected.MergeFrom(about)
    predictions = Predictions(labels.astype("<u2").tobytes(), probabilities.tobytes())
    assert encode(predictions, about.SerializeToString()) == expected.SerializeToString()


@pytest.mark.parametrize("image_count", [1, 200])
def test_pixels_stand_where_protobuf_would_have_them(image_count: int) -> None:
    """Behind everything else, with a length of two or three bytes."""
    pixels = bytes(range(196)) * 4 * image_count
    about = ClassifyResponse(model_name="digits", model_version=1, provider="CPUExecutionProvider")
    expected = ClassifyResponse(digits=[0] * image_count, probabilities=[0] * image_count, pixels=pixels)
    expected.MergeFrom(about)
    predictions = Predictions(bytes(2 * image_count), bytes(4 * image_count))
    assert encode(predictions, about.SerializeToString(), pixels) == expected.SerializeToString()


def test_labels_that_are_all_zero_are_written_all_the_same() -> None:
    """A packed field holds zeros too."""
    response = ClassifyResponse.FromString(encode(Predictions(bytes(6), bytes(120)), b""))
    assert list(response.digits) == [0, 0, 0]
    assert len(response.probabilities) == 30
