"""ClassifyResponses, written without protobuf's objects: what the model gives is what a packed field holds.

The encoding is https://protobuf.dev/programming-guides/encoding/; a test holds it to protobuf's own, byte for byte.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DIGITS, PROBABILITIES, PIXELS = b"\x0a", b"\x12", b"\x32"
"""The tags of fields 1, 2 and 6: packed, packed, bytes."""


def encode(probabilities: NDArray[np.generic], image_counts: Sequence[int], constant: bytes) -> list[bytes]:
    """The response to each call of a batch, for `probabilities`, float32 (image, class).

    `constant` is what every response says besides, a ClassifyResponse of its own.
    """
    labels = probabilities.argmax(axis=1).astype("<u2").tobytes()
    content = probabilities.tobytes()
    row = 4 * probabilities.shape[1]
    one = PROBABILITIES + _varint(row)
    responses, start = [], 0
    for count in image_counts:
        stop = start + count
        if count == 1 and labels[2 * start] < 128 and not labels[2 * start + 1]:
            responses.append(
                b"%b\1%c%b%b%b" % (DIGITS, labels[2 * start], one, content[row * start : row * stop], constant)
            )
        else:
            digits, part = _varints(labels[2 * start : 2 * stop]), content[row * start : row * stop]
            responses.append(
                b"".join((DIGITS, _varint(len(digits)), digits, PROBABILITIES, _varint(len(part)), part, constant))
            )
        start = stop
    return responses


def pixels_field(pixels: bytes) -> bytes:
    """What a response to photos also says: the pixels that they were made into, which the caller cannot know."""
    return b"".join((PIXELS, _varint(len(pixels)), pixels))


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
