"""What is read from a repository is believed only after it was checked."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
                file["sha256"] = digest

    edit_manifest(directory, change)


def npz(**arrays: Any) -> bytes:
    """Arrays as the bytes of an .npz file."""
    file = io.BytesIO()
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
    """The hash tells, whatever the damage."""
    current = current_of(directory)
    damage(directory / "1" / name)
    with pytest.raises(VersionRefusedError, match=f"{name}: sha256 is .*, expected"):
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
        (lambda manifest: manifest["signature"].pop("inputs"), "signature is"),
        (lambda manifest: manifest["signature"]["inputs"][0].update(shape=[-1, 28, 28, 4]), "28, 4"),
        (lambda manifest: manifest["signature"]["inputs"][0].update(shape=[-1]), "images: uint8"),
        (lambda manifest: manifest["known_answers"].update(image_count=3), "shapes are"),
        (lambda manifest: manifest.update(version="one"), "no readable JSON"),
    ],
    ids=[
        "schema",
        "version",
        "files",
        "labels",
        "dtype",
        "tensor name",
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


def test_known_answers_with_pickles_are_refused(directory: Path) -> None:
    """Nothing from a repository is ever executed."""
    replace_known_answers(directory, npz(images=np.array([{}], dtype=object)))
    with pytest.raises(VersionRefusedError, match=r"known_answers\.npz: expected images"):
        read_version(directory, current_of(directory))


def test_known_answers_that_lack_an_array_are_refused(directory: Path) -> None:
    """All three arrays are needed."""
    replace_known_answers(directory, npz(images=np.zeros((1, 28, 28), np.uint8)))
    with pytest.raises(VersionRefusedError, match=r"known_answers\.npz: expected images"):
        read_version(directory, current_of(directory))


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
