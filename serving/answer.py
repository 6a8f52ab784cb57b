"""A ClassifyResponse, written without protobuf's objects: what the model gives is what a packed field holds.

The encoding is https://protobuf.dev/programming-guides/encoding/; a test holds it to protobuf's own, byte for byte.
"""

from serving.session import Predictions

DIGITS, PROBABILITIES, PIXELS = b"\x0a", b"\x12", b"\x32"
"""The tags of fields 1, 2 and 6: packed, packed, bytes."""


def encode(predictions: Predictions, constant: bytes, pixels: bytes = b"") -> bytes:
    """The response that tells of `predictions`, and of the `pixels` that they are of where a caller cannot know them.

    `constant` is what it says besides, a ClassifyResponse of its own.
    """
    digits = _varints(predictions.labels)
    probabilities = predictions.probabilities
    parts = (DIGITS, _varint(len(digits)), digits, PROBABILITIES, _varint(len(probabilities)), probabilities, constant)
    return b"".join((*parts, PIXELS, _varint(len(pixels)), pixels) if pixels else parts)


def _varints(labels: bytes) -> bytes:
    """Of uint16: below 128 a number is its lower byte."""
    lower, upper = labels[::2], labels[1::2]
    if not any(upper) and lower.isascii():
        return lower
    return b"".join(_varint(low + 256 * high) for low, high in zip(lower, upper, strict=True))


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; all but the last have their highest bit set."""
    if number < 128:
        return _SMALL[number]
    return bytes((number & 127 | 128,)) + _varint(number >> 7)


_SMALL = [bytes((number,)) for number in range(128)]
