"""IDX files are read whole or refused by name."""

import gzip
import hashlib
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.data.idx import read_idx, write_idx
from pipeline.errors import DataError
from tests.pipeline.idx_files import encode_idx

IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
COLOURS = np.arange(36, dtype=np.uint8).reshape(2, 3, 2, 3)
LABELS = np.array([7, 0, 255], dtype=np.uint8)
ENCODED = encode_idx(IMAGES)
HEADER_BYTES = 16

overwrites_one_file = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


@pytest.mark.parametrize(
    "array", [IMAGES, COLOURS, LABELS, IMAGES[:0]], ids=["images", "colour images", "labels", "no image at all"]
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_reads_what_was_written(tmp_path: Path, array: np.ndarray, pack: Callable[[bytes], bytes]) -> None:
    """A file gives its array and the digest of its uncompressed bytes, whether it is compressed or not."""
    path = tmp_path / "file"
    path.write_bytes(pack(encode_idx(array)))
    idx_file = read_idx(path)
    np.testing.assert_array_equal(idx_file.array, array)
    assert idx_file.sha256 == hashlib.sha256(encode_idx(array)).hexdigest()


@pytest.mark.parametrize("array", [IMAGES, COLOURS, LABELS], ids=["images", "colour images", "labels"])
def test_writes_what_others_read(tmp_path: Path, array: np.ndarray) -> None:
    """The bytes are those of an encoder written apart from ours, and the digest is theirs."""
    sha256 = write_idx(tmp_path / "file", array)
    assert (tmp_path / "file").read_bytes() == encode_idx(array)
    assert sha256 == read_idx(tmp_path / "file").sha256


def test_reads_a_file_made_by_hand(tmp_path: Path) -> None:
    """The bytes of LeCun's description, typed in, are two images of 1 x 2 pixels."""
    path = tmp_path / "file"
    path.write_bytes(bytes.fromhex("00000803 00000002 00000001 00000002 00 ff 10 20"))
    assert read_idx(path).array.tolist() == [[[0, 255]], [[16, 32]]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "starts with nothing", id="empty file"),
        pytest.param(b"<html>", "starts with 3c68746d", id="a web page instead of data"),
        pytest.param(struct.pack(">HBBI", 0, 0x0D, 1, 1) + b"\0" * 4, "type code 0x0d", id="floats"),
        pytest.param(struct.pack(">HBB2I", 0, 8, 2, 1, 1) + b"\0", "has 2 dimensions", id="a matrix"),
        pytest.param(
            encode_idx(np.zeros((1, 2, 2, 4), np.uint8)), "has 4 bytes a pixel; expected 3", id="four channels"
        ),
        pytest.param(ENCODED[:10], "ends inside its header", id="cut in its header"),
        pytest.param(ENCODED[:-1], "only 23 bytes", id="one byte short"),
        pytest.param(ENCODED + b"\0", "more than 24 bytes", id="one byte long"),
        pytest.param(struct.pack(">HBB3I", 0, 8, 3, *[2**32 - 1] * 3), "at most 1073741824", id="absurdly large"),
        pytest.param(gzip.compress(ENCODED)[:-4], "cannot be read", id="gzip without its end"),
        pytest.param(gzip.compress(ENCODED)[:-8] + b"\0" * 8, "cannot be read", id="gzip with a wrong checksum"),
        pytest.param(gzip.compress(ENCODED)[:10] + b"\xff" * 8, "cannot be read", id="gzip with garbage inside"),
    ],
)
def test_refuses_what_is_no_idx_file(tmp_path: Path, content: bytes, message: str) -> None:
    """A faulty file is refused with its name and its fault."""
    path = tmp_path / "train-images"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_refuses_a_missing_file(tmp_path: Path) -> None:
    """A file that is not there is a DataError that names it."""
    with pytest.raises(DataError, match="absent: cannot be read: No such file"):
        read_idx(tmp_path / "absent")


@overwrites_one_file
@given(length=st.integers(0, len(ENCODED) - 1), compressed=st.booleans())
def test_refuses_every_truncation(tmp_path: Path, length: int, compressed: bool) -> None:
    """However a file is cut short, before or after compression, it is refused."""
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(ENCODED[:length]) if compressed else ENCODED[:length])
    with pytest.raises(DataError):
        read_idx(path)


@overwrites_one_file
@given(position=st.integers(0, HEADER_BYTES - 1), flip=st.integers(1, 255))
def test_refuses_every_changed_header_byte(tmp_path: Path, position: int, flip: int) -> None:
    """Whichever byte of the header changes, the file is refused."""
    content = bytearray(ENCODED)
    content[position] ^= flip
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DataError):
        read_idx(path)


def test_stops_inflating_where_the_header_says_it_ends(tmp_path: Path) -> None:
    """A small gzip that would inflate to 64 MiB is refused without holding them."""
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(ENCODED + bytes(2**26)))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="more than 24 bytes"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
