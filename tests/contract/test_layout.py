"""Files of a model repository are read without blocking and within limits, and only canonical numbers are versions."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from protos.artifact.layout import UnusableFileError, read_file, sha256_of, version_number


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


@pytest.mark.parametrize("name", ["1", "7", "10", "123456"])
def test_a_decimal_number_without_leading_zeros_is_a_version(name: str) -> None:
    """`[1-9][0-9]*`."""
    assert version_number(name) == int(name)


@pytest.mark.parametrize(
    "name", ["0", "00000009", "01", "-1", "+1", "1 ", " 1", "1\n", "٧", "７", "1e3", "", ".staging", "9999999999"]
)
def test_no_other_name_is_a_version(name: str) -> None:
    """Nor are digits of other scripts, which `str.isdecimal` and `int` accept."""
    assert version_number(name) is None


def test_a_file_at_its_limit_is_read_whole(tmp_path: Path) -> None:
    """The limit is inclusive."""
    path = tmp_path / "file"
    path.write_bytes(b"12345678")
    assert read_file(path, 8) == b"12345678"
    assert sha256_of(path) == "ef797c8118f02dfb649607dd5d3f8c7623048c9c063d532cc95c5ed7a898a64f"


def test_a_larger_file_is_named_with_its_limit_and_not_read(tmp_path: Path) -> None:
    """A sparse file of 1 TiB would not fit into memory."""
    path = tmp_path / "file"
    path.touch()
    os.truncate(path, 1 << 40)
    with pytest.raises(UnusableFileError, match=rf"^{path}: is larger than 65536 bytes, expected at most that$"):
        read_file(path, 64 << 10)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        pytest.param(os.mkfifo, "a FIFO", id="a FIFO that nobody writes to"),
        pytest.param(Path.mkdir, "a directory", id="a directory"),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), "a device", id="a device without an end"),
    ],
)
def test_what_is_not_a_regular_file_is_named_at_once(tmp_path: Path, make: Callable[[Path], None], kind: str) -> None:
    """Opening it does not wait for a writer."""
    make(path := tmp_path / "file")
    with pytest.raises(UnusableFileError, match=rf"^{path}: is {kind}, expected a regular file$"):
        read_file(path)


@pytest.mark.parametrize("make", [pytest.param(_socket, id="a socket"), pytest.param(lambda _path: None, id="nothing")])
def test_what_the_system_cannot_open_is_an_os_error(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """The caller decides by its number whether trying again makes sense."""
    make(path := tmp_path / "file")
    with pytest.raises(OSError, match=str(path)):
        read_file(path)
