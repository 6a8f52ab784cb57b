"""An IDX file costs the memory that it needs, whatever it inflates to."""

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from serving.idx import MAX_BYTES, read_images, read_labels
from tests.programs import ROOT


def header(*shape: int) -> bytes:
    """The header of unsigned bytes of this shape."""
    return bytes([0, 0, 8, len(shape)]) + b"".join(size.to_bytes(4) for size in shape)


@pytest.mark.parametrize("write", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_images_and_labels_are_read(write: "type[bytes]", tmp_path: Path) -> None:
    """Grey, colour and labels, each with its shape."""
    for shape, read in (((2, 3, 4), read_images), ((2, 3, 4, 3), read_images), ((5,), read_labels)):
        content = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
        (tmp_path / "file").write_bytes(write(header(*shape) + content.tobytes()))
        assert np.array_equal(read(tmp_path / "file"), content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(gzip.compress(header(1, 2, 2) + bytes(5)), "got more than 4 bytes after", id="one byte more"),
        pytest.param(gzip.compress(header(1, 2, 2) + bytes(3)), "got 3 bytes after", id="one byte less"),
        pytest.param(header(2**31, 28, 28), f"expected at most {MAX_BYTES}", id="a header beyond the limit"),
        pytest.param(header(1, 2, 2)[:-1], "expected an IDX file", id="half a header"),
        pytest.param(gzip.compress(header(1, 2, 2) + bytes(4))[:-9], "broken gzip", id="half a gzip file"),
    ],
)
def test_what_does_not_hold_what_it_declares_is_rejected(content: bytes, message: str, tmp_path: Path) -> None:
    """With its name and the numbers."""
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=f"file: .*{message}"):
        read_images(tmp_path / "file")


BOMBS = {
    "inflates to 1 GiB": (header(1, 28, 28), 2**10),
    "declares 1 GiB and holds nothing": (header(2**20, 32, 32), 0),
}
PROGRAM = """
import resource, sys
from pathlib import Path
from serving.idx import read_images
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
try:
    read_images(Path(sys.argv[1]))
except ValueError as error:
    print(error)
"""


@pytest.mark.parametrize("name", BOMBS)
def test_a_gzip_bomb_is_rejected_in_little_memory(name: str, tmp_path: Path) -> None:
    """256 MiB are enough to see that it is none of ours."""
    begin, mebibytes = BOMBS[name]
    with gzip.open(tmp_path / "bomb", "wb", compresslevel=1) as file:
        file.write(begin)
        for _ in range(mebibytes):
            file.write(bytes(2**20))
    done = subprocess.run([sys.executable, "-c", PROGRAM, tmp_path / "bomb"], cwd=ROOT, capture_output=True, text=True)
    assert "bytes after the header, expected the" in done.stdout, done.stderr
