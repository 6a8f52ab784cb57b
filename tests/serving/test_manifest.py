"""What is read from a repository is believed only after it was checked."""

import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import pytest

from protos.artifact.layout import sha256_of
from protos.artifact.v1.manifest_pb2 import Current
from serving.errors import VersionRefusedError
from serving.versions.manifest import find_published, parse_current, read_version
from tests.serving.conftest import VERSIONS

SHA = "a" * 64

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A model's folder with version 1 in it."""
    shutil.copytree(VERSIONS / "1", tmp_path / "1")
    for path in (tmp_path / "1").iterdir():
        path.chmod(0o644)
    return tmp_path


def current_of(directory: Path) -> Current:
    """CURRENT as it would be for version 1 with its manifest as it is now."""
    return Current(version=1, sha256=sha256_of(directory / "1" / "manifest.json"), generation=1)


def edit_manifest(directory: Path, change: Change) -> None:
    """Change the manifest's JSON."""
    path = directory / "1" / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def replace_known_answers(directory: Path, content: bytes) -> None:
    """Replace the known answers, with hashes that fit, so that the content itself is looked at."""
    path = directory / "1" / "known_answers.npz"
    path.write_bytes(content)
    digest = sha256_of(path)

    def change(manifest: dict[str, Any]) -> None:
        for file in manifest["files"]:
            if file["path"] == "known_answers.npz":
                file.update(sha256=digest, size_bytes=str(len(content)))

    edit_manifest(directory, change)


def npz(**arrays: Any) -> bytes:
    """Arrays as the bytes of an .npz file."""
    file = BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def test_a_whole_version_is_read(directory: Path) -> None:
    """Everything that serving needs comes out."""
    version = read_version(directory, current_of(directory))
    assert version.manifest.version == 1
    assert version.image_shape == (28, 28)
    assert version.known_answers.images.shape[1:] == (28, 28)
    assert list(version.manifest.labels) == [str(digit) for digit in range(10)]


def test_a_version_of_colour_images_is_read() -> None:
    """Three dimensions an image, and the names of its classes."""
    current = Current(version=4, sha256=sha256_of(VERSIONS / "4" / "manifest.json"), generation=1)
    version = read_version(VERSIONS, current)
    assert version.image_shape == version.known_answers.images.shape[1:] == (20, 20, 3)
    assert list(version.manifest.labels) == list("ABCDE")


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "known_answers.npz", "features.onnx"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b"\x00" + path.read_bytes()[1:]),
        lambda path: path.write_bytes(b""),
    ],
    ids=["truncated", "one byte changed", "empty"],
)
def test_a_damaged_file_is_refused_by_name(directory: Path, name: str, damage: Callable[[Path], int]) -> None:
    """Its size tells, or its hash."""
    current = current_of(directory)
    damage(directory / "1" / name)
    with pytest.raises(VersionRefusedError, match=f"{name}: (sha256 is .*|is [0-9]+ bytes long), expected"):
        read_version(directory, current)


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "known_answers.npz", "features.onnx"])
def test_a_missing_file_is_refused_by_name(directory: Path, name: str) -> None:
    """The message says that it cannot be read."""
    current = current_of(directory)
    (directory / "1" / name).unlink()
    with pytest.raises(VersionRefusedError, match=f"{name}: cannot be read"):
        read_version(directory, current)


def test_a_version_without_feature_maps_is_read(directory: Path) -> None:
    """As it was published before there were any; a file that no manifest names is nobody's."""
    assert read_version(directory, current_of(directory)).features == (directory / "1" / "features.onnx").read_bytes()
    edit_manifest(directory, lambda manifest: manifest.update(files=without_features(manifest["files"])))
    assert read_version(directory, current_of(directory)).features is None


def without_features(files: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All files but those of the feature maps."""
    return [file for file in files if file["path"] != "features.onnx"]


def test_a_missing_version_directory_is_refused(directory: Path) -> None:
    """CURRENT may name what is not there."""
    with pytest.raises(VersionRefusedError, match="cannot be read"):
        read_version(directory, Current(version=9, sha256=SHA, generation=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: manifest.update(schema="artifact/v2"), "schema is 'artifact/v2'"),
        (lambda manifest: manifest.update(version=7), "is of version 7, expected 1"),
        (lambda manifest: manifest.update(files=[]), "lists no model.onnx"),
        (lambda manifest: manifest["labels"].pop(), "signature is"),
        (lambda manifest: manifest["signature"]["inputs"][0].update(dtype="float32"), "images: float32"),
        (lambda manifest: manifest["signature"]["inputs"][0].update(name="x"), "x: uint8"),
        (lambda manifest: manifest["signature"]["outputs"][0].update(dtype="float64"), "logits: float64"),
        (lambda manifest: manifest["signature"]["outputs"][1].update(name="x"), "x: float32"),
        (lambda manifest: manifest["signature"]["outputs"][1].update(shape=[-1, 9]), "probabilities: float32.*9"),
        (lambda manifest: manifest["signature"]["outputs"].reverse(), "probabilities: .*; logits: "),
        (lambda manifest: manifest["known_answers"].update(image_count=0), "0 images, expected at least one"),
        (lambda manifest: manifest["signature"].pop("inputs"), "signature is"),
        (lambda manifest: manifest["signature"]["inputs"][0].update(shape=[-1, 28, 28, 4]), "28, 4"),
        (lambda manifest: manifest["signature"]["inputs"][0].update(shape=[-1]), "images: uint8"),
        (
            lambda manifest: manifest["known_answers"].update(image_count=3),
            "images: got .*64.*, expected .*3, 28",
        ),
        (lambda manifest: manifest.update(version="one"), "no readable JSON"),
    ],
    ids=[
        "schema",
        "version",
        "files",
        "labels",
        "dtype",
        "tensor name",
        "dtype of an output",
        "name of an output",
        "shape of an output",
        "order of the outputs",
        "no known answers",
        "no input",
        "four channels",
        "no size",
        "count",
        "wrong type",
    ],
)
def test_a_manifest_that_says_something_else_is_refused(directory: Path, change: Change, message: str) -> None:
    """The message names what came and what was expected."""
    edit_manifest(directory, change)
    with pytest.raises(VersionRefusedError, match=message):
        read_version(directory, current_of(directory))


def test_fields_of_a_later_writer_are_ignored(directory: Path) -> None:
    """Readers ignore what they do not know; writers only add."""
    edit_manifest(directory, lambda manifest: manifest.update(colour="blue"))
    assert read_version(directory, current_of(directory)).manifest.version == 1


def answers(**changed: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays that the manifest describes, some of them changed."""
    usual: dict[str, np.ndarray[Any, Any]] = {
        "images": np.zeros((64, 28, 28), np.uint8),
        "logits": np.zeros((64, 10), np.float32),
        "probabilities": np.zeros((64, 10), np.float32),
    }
    return {**usual, **changed}


ANSWERS: dict[str, dict[str, np.ndarray[Any, Any]]] = {
    "pickles": answers(images=np.array([{}], dtype=object)),
    "images of another dtype": answers(images=np.zeros((64, 28, 28), np.int8)),
    "images of another size": answers(images=np.zeros((64, 28, 27), np.uint8)),
    "fewer images": answers(images=np.zeros((63, 28, 28), np.uint8)),
    "logits of another dtype": answers(logits=np.zeros((64, 10), np.float64)),
    "logits of another shape": answers(logits=np.zeros((64, 9), np.float32)),
    "probabilities of another dtype": answers(probabilities=np.zeros((64, 10), np.float16)),
    "probabilities of another shape": answers(probabilities=np.zeros((640,), np.float32)),
}


@pytest.mark.parametrize("arrays", ANSWERS.values(), ids=ANSWERS.keys())
def test_other_known_answers_than_the_manifest_describes_are_refused(
    directory: Path, arrays: dict[str, np.ndarray[Any, Any]]
) -> None:
    """By the header of each array; nothing from a repository is ever executed."""
    replace_known_answers(directory, npz(**arrays))
    with pytest.raises(VersionRefusedError, match=r"known_answers\.npz: (images|logits|probabilities): got "):
        read_version(directory, current_of(directory))


@pytest.mark.parametrize("missing", ["images", "logits", "probabilities"])
def test_known_answers_without_an_array_are_refused(directory: Path, missing: str) -> None:
    """All three arrays are needed."""
    arrays = answers()
    del arrays[missing]
    replace_known_answers(directory, npz(**arrays))
    with pytest.raises(VersionRefusedError, match=r"known_answers\.npz: expected images"):
        read_version(directory, current_of(directory))


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", npz(**answers())[:-30], b"\x93NUMPY"],
    ids=["empty", "garbage", "cut short", "an array"],
)
def test_known_answers_that_are_not_an_archive_are_refused(directory: Path, content: bytes) -> None:
    """Though their hash is right."""
    replace_known_answers(directory, content)
    with pytest.raises(VersionRefusedError, match=r"known_answers\.npz: expected images"):
        read_version(directory, current_of(directory))


@pytest.mark.parametrize(
    ("image_count", "reason"),
    [(64, r"images: got .*1200000, 28, 28"), (1_200_000, r"holds [0-9]+ bytes when inflated, expected at most")],
    ids=["more than the manifest says", "as many as the manifest says"],
)
def test_known_answers_that_inflate_to_a_gigabyte_are_refused_before_that(
    directory: Path, image_count: int, reason: str
) -> None:
    """941 MB of zeros in 1 MB of a file: the header is enough."""
    content = bomb(1_200_000)
    assert len(content) < 2 << 20
    replace_known_answers(directory, content)
    edit_manifest(directory, lambda manifest: manifest["known_answers"].update(image_count=image_count))
    current = current_of(directory)
    tracemalloc.start()
    try:
        with pytest.raises(VersionRefusedError, match=reason):
            read_version(directory, current)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


@cache
def bomb(image_count: int) -> bytes:
    """Known answers with this number of images, all zeros."""
    content = BytesIO()
    with (
        ZipFile(content, "w", ZIP_DEFLATED, compresslevel=9) as archive,
        archive.open("images.npy", "w", force_zip64=True) as member,
    ):
        header = {"descr": "|u1", "fortran_order": False, "shape": (image_count, 28, 28)}
        np.lib.format.write_array_header_1_0(member, header)
        for _ in range(image_count // 60_000):
            member.write(bytes(60_000 * 28 * 28))
    return content.getvalue()


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "known_answers.npz", "features.onnx"])
@pytest.mark.parametrize("kind", ["a FIFO", "a directory", "a device", "3 GB"])
def test_what_cannot_be_read_to_its_end_is_refused_at_once(directory: Path, name: str, kind: str) -> None:
    """Nothing waits for a writer, and nothing of it is read."""
    current, path = current_of(directory), directory / "1" / name
    path.unlink()
    match kind:
        case "a FIFO":
            os.mkfifo(path)
        case "a directory":
            path.mkdir()
        case "a device":
            path.symlink_to("/dev/zero")
        case _:
            path.touch()
            os.truncate(path, 3 << 30)
    with pytest.raises(VersionRefusedError, match=f"{name}: is ({kind}, expected a regular file|larger than)"):
        read_version(directory, current)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[]",
        b'"3"',
        b"{}",
        b'{"version": 0, "sha256": "", "generation": 1}',
        b'{"version": 1, "sha256": "abc", "generation": 1}',
        b'{"version": "\xc3\xa9"}',
        b'{"version": 99999999999}',
        b"[" * 10_000,
    ],
    ids=[
        "empty",
        "no text",
        "cut",
        "a list",
        "a string",
        "no fields",
        "version 0",
        "short hash",
        "text",
        "huge",
        "deep",
    ],
)
def test_a_garbled_current_is_refused(content: bytes) -> None:
    """Never another exception, whatever stands in CURRENT."""
    with pytest.raises(VersionRefusedError, match="CURRENT"):
        parse_current(content)


def test_the_newest_line_of_the_history_names_a_version(tmp_path: Path) -> None:
    """Of several, and though the last line is still being written."""
    lines = [{"version": 1, "sha256": "b" * 64, "generation": 1}, {"version": 1, "sha256": SHA, "generation": 3}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "HISTORY.jsonl").write_text(text + '{"version": 1, "sha')
    published = find_published(tmp_path, 1)
    assert (published.version, published.sha256, published.generation) == (1, SHA, 3)


def test_current_is_read() -> None:
    """A whole CURRENT says version, hash and generation."""
    current = parse_current(json.dumps({"version": 3, "sha256": SHA, "previous": 2, "generation": 7}).encode())
    assert (current.version, current.previous, current.generation) == (3, 2, 7)
