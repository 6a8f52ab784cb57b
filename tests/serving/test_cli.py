"""`python -m serving`: what a person types and what comes back."""

import json
from pathlib import Path

import pytest
from PIL import Image

from serving.pixels import Images
from tests.programs import ServerProcess, run_program
from tests.serving.conftest import MNIST, Publisher

IMAGES = MNIST / "t10k-images-idx3-ubyte.gz"
LABELS = MNIST / "t10k-labels-idx1-ubyte.gz"


def test_a_png_file_is_classified(served: ServerProcess, images: Images, tmp_path: Path) -> None:
    """One line: file, digit, confidence."""
    Image.fromarray(images[0]).save(tmp_path / "seven.png")
    done = run_program("serving", "classify", tmp_path / "seven.png", "--server", served.address)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{tmp_path / 'seven.png'}: 7 (")
    assert done.stdout.endswith("%)\n")


def test_an_idx_file_against_its_labels_gives_the_accuracy(served: ServerProcess) -> None:
    """All ten thousand test images, as JSON for a script."""
    done = run_program("serving", "classify", IMAGES, "--labels", LABELS, "--server", served.address, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["image_count"] == 10_000
    assert summary["accuracy"] > 0.97
    assert summary["model_versions"] == [1]
    assert summary["providers"] == ["CPUExecutionProvider"] or summary["providers"] == ["CUDAExecutionProvider"]


def test_json_lines_name_every_image(served: ServerProcess) -> None:
    """One object an image, in order."""
    done = run_program("serving", "classify", IMAGES, "--server", served.address, "--json", "--batch", "1000")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 10_000
    assert lines[9_999]["name"] == f"{IMAGES}[9999]"
    assert lines[0]["label"] == "7"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"hello", "expected an IDX file of images"),
        (b"\x1f\x8b broken", "is a broken gzip file"),
        (
            b"\x00\x00\x08\x03" + b"\x00\x00\x00\x02" * 3,
            "got 0 bytes after the header, expected the 8",
        ),
        (b"\x89PNG\r\n\x1a\n broken", "no PNG file that can be decoded"),
    ],
    ids=["text", "broken gzip", "cut IDX", "broken PNG"],
)
def test_a_file_that_cannot_be_read_is_told_in_one_line(
    served: ServerProcess, tmp_path: Path, content: bytes, message: str
) -> None:
    """Exit code 1, no traceback."""
    (tmp_path / "file").write_bytes(content)
    done = run_program("serving", "classify", tmp_path / "file", "--server", served.address)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_missing_file_is_told_in_one_line(served: ServerProcess, tmp_path: Path) -> None:
    """Exit code 1, and the file's name."""
    done = run_program("serving", "classify", tmp_path / "none.png", "--server", served.address)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "none.png" in done.stderr


def test_a_server_that_is_not_there_is_told_in_one_line() -> None:
    """Exit code 1, and the address."""
    done = run_program("serving", "classify", IMAGES, "--server", "127.0.0.1:1", "--timeout-s", "1")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "127.0.0.1:1" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [[], ["draw"], ["serve", "--port", "none"], ["serve", "--colour"], ["classify"], ["classify", "x", "--batch", "0"]],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    """And stderr says what was wrong."""
    done = run_program("serving", *arguments)
    assert done.returncode == 2
    assert done.stderr


def test_a_taken_port_is_exit_code_1_in_one_line(served: ServerProcess, publisher: Publisher) -> None:
    """The message says what to do."""
    port = served.address.rsplit(":", 1)[1]
    done = run_program("serving", "serve", "--repository", publisher.root, "--port", port, "--log-level", "error")
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr


def test_help_explains_every_command() -> None:
    """--help is exit code 0 and names environment variables and defaults."""
    done = run_program("serving", "serve", "--help")
    assert done.returncode == 0
    assert "SERVING_MAX_IMAGE_COUNT" in done.stdout
