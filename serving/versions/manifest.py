"""Reads what the pipeline published (schema artifact/v1), and believes nothing that it has not checked.

Chain of proof: CURRENT names the hash of the current version's manifest.json, HISTORY.jsonl those of the others; a
manifest names the hash of every file beside it.
"""

import hashlib
import math
import zlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TypeVar
from zipfile import BadZipFile, ZipFile

import numpy as np
from google.protobuf import json_format
from google.protobuf.message import Message
from numpy.typing import NDArray

from protos.artifact.layout import (
    CURRENT,
    FEATURES,
    HISTORY,
    HISTORY_MAX_BYTES,
    KNOWN_ANSWERS,
    MANIFEST,
    MANIFEST_MAX_BYTES,
    MODEL,
    SCHEMA,
    UnusableFileError,
    read_file,
)
from protos.artifact.v1.manifest_pb2 import Current, File, HistoryEntry, Manifest, Tensor
from serving.errors import HistoryError, HistoryNotReadyError, VersionNotReadyError, VersionRefusedError
from serving.pixels import Images, ImageShape

COLOURS = 3
"""The bytes of a pixel where a model takes red, green and blue."""

KNOWN_ANSWERS_MAX_BYTES = 256 << 20
"""When inflated: they are compared in memory."""

M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class KnownAnswers:
    """Images and the answers that PyTorch gave."""

    images: Images
    """uint8 (image, row, column), or (image, row, column, 3)"""
    logits: NDArray[np.float32]
    """float32 (image, class)"""
    probabilities: NDArray[np.float32]
    """float32 (image, class), [0, 1]"""


@dataclass(frozen=True)
class Version:
    """A version directory as it was read: whole, and equal to its hashes."""

    manifest: Manifest
    model: bytes
    """The bytes of model.onnx; read once, so that what was hashed is what is loaded."""
    known_answers: KnownAnswers
    features: bytes | None = None
    """The bytes of features.onnx; None where the version was published without feature maps."""

    @property
    def image_shape(self) -> ImageShape:
        """Height and width of an image, in pixels, and 3 where the model takes colours."""
        return _image_shape(self.manifest)


def parse_current(content: bytes) -> Current:
    """CURRENT from its bytes; raises VersionRefusedError when they say nothing usable."""
    current = _parse(content, Current(), CURRENT)
    if current.version < 1 or current.generation < 1 or len(current.sha256) != 64:
        raise VersionRefusedError(f"{CURRENT}: expected a version, a generation and a sha256, got {content[:200]!r}")
    return current


def find_published(model_directory: Path, version: int) -> Current:
    """A version as CURRENT named it when it was last current, from HISTORY.jsonl (`previous` is left out).

    Raises VersionNotReadyError when no line names it: it was not published yet, or the file has not arrived. Raises
    HistoryError when the file cannot be read, or when its line is older than hashes in it.
    """
    try:
        content = read(model_directory / HISTORY, HISTORY_MAX_BYTES)
        whole_lines = content.rpartition(b"\n")[0]  # a last one without its end is being written
        entries = [_parse(line, HistoryEntry(), HISTORY) for line in whole_lines.splitlines()]
    except VersionNotReadyError as error:
        raise HistoryNotReadyError(str(error)) from error
    except VersionRefusedError as error:
        raise HistoryError(str(error)) from error
    of_version = [entry for entry in reversed(entries) if entry.version == version]
    if not of_version:
        missing = f"{model_directory / HISTORY}: has no version {version}: publish or promote it first"
        raise VersionNotReadyError(missing)
    if not (published := next((entry for entry in of_version if entry.sha256), None)):
        raise HistoryError(f"{model_directory / HISTORY}: has no hash of version {version}: promote it first")
    return Current(version=version, sha256=published.sha256, generation=published.generation)


def read_version(model_directory: Path, current: Current) -> Version:
    """The version that `current` names; raises VersionRefusedError when any byte is not what was published."""
    directory = model_directory / str(current.version)
    manifest_bytes = read(directory / MANIFEST, MANIFEST_MAX_BYTES)
    _check_hash(directory / MANIFEST, manifest_bytes, current.sha256)
    manifest = _parse(manifest_bytes, Manifest(), MANIFEST)
    _check_manifest(manifest, current.version)
    files = {file.path: file for file in manifest.files}
    content = {}
    for name in (MODEL, KNOWN_ANSWERS, *({FEATURES} & files.keys())):
        if name not in files:
            raise VersionRefusedError(f"{directory / MANIFEST}: lists no {name}")
        content[name] = _read_listed(directory / name, files[name])
    known_answers = _parse_known_answers(content[KNOWN_ANSWERS], manifest)
    return Version(manifest, content[MODEL], known_answers, content.get(FEATURES))


def read(path: Path, max_bytes: int) -> bytes:
    """The bytes of a file of the repository.

    Raises VersionNotReadyError where the system cannot read it, VersionRefusedError where it is not a regular file or
    has more than `max_bytes`.
    """
    try:
        return read_file(path, max_bytes)
    except OSError as error:
        raise VersionNotReadyError(f"{path}: cannot be read: {error.strerror}") from error
    except UnusableFileError as error:
        raise VersionRefusedError(str(error)) from error


def _read_listed(path: Path, file: File) -> bytes:
    """A file that a manifest lists, with the size and the hash that stand there."""
    content = read(path, file.size_bytes)
    if len(content) < file.size_bytes:
        raise VersionNotReadyError(f"{path}: is {len(content)} bytes long, expected {file.size_bytes}")
    _check_hash(path, content, file.sha256)
    return content


def _check_hash(path: Path, content: bytes, expected: str) -> None:
    came = hashlib.sha256(content).hexdigest()
    if came != expected:
        raise VersionRefusedError(f"{path}: sha256 is {came}, expected {expected}: the file is not what was published")


def _parse(content: bytes, message: M, name: str) -> M:
    try:
        return json_format.Parse(content, message, ignore_unknown_fields=True)
    except (json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise VersionRefusedError(f"{name}: is no readable JSON of its schema: {error}") from error


def _check_manifest(manifest: Manifest, version: int) -> None:
    if manifest.schema != SCHEMA:
        raise VersionRefusedError(f"{MANIFEST}: schema is {manifest.schema!r}, expected {SCHEMA!r}")
    if manifest.version != version:
        raise VersionRefusedError(f"{MANIFEST}: is of version {manifest.version}, expected {version}")
    classes = len(manifest.labels)
    came = [_describe(tensor) for tensor in (*manifest.signature.inputs, *manifest.signature.outputs)]
    outputs = [f"{name}: float32[-1, {classes}]" for name in ("logits", "probabilities")]
    shape = _image_shape(manifest) if manifest.signature.inputs else ()
    images = f"images: uint8{[-1, *shape]}"
    if len(shape) not in (2, 3) or min(shape) < 1 or shape[2:] not in ((), (COLOURS,)) or came != [images, *outputs]:
        expected = "; ".join([f"images: uint8[-1, height, width] or uint8[-1, height, width, {COLOURS}]", *outputs])
        raise VersionRefusedError(f"{MANIFEST}: signature is {'; '.join(came)}, expected {expected}")


def _image_shape(manifest: Manifest) -> ImageShape:
    return tuple(manifest.signature.inputs[0].shape[1:])


def _describe(tensor: Tensor) -> str:
    return f"{tensor.name}: {tensor.dtype}{list(tensor.shape)}"


def _parse_known_answers(content: bytes, manifest: Manifest) -> KnownAnswers:
    try:
        with ZipFile(BytesIO(content)) as members:
            _check_known_answers(members, manifest)
        with np.load(BytesIO(content), allow_pickle=False) as arrays:
            return KnownAnswers(arrays["images"], arrays["logits"], arrays["probabilities"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error, NotImplementedError) as error:
        raise VersionRefusedError(f"{KNOWN_ANSWERS}: expected images, logits and probabilities: {error}") from error


def _check_known_answers(members: ZipFile, manifest: Manifest) -> None:
    """Refuse other arrays than the manifest says, before they are inflated: a few bytes can stand for gigabytes."""
    count, classes = manifest.known_answers.image_count, len(manifest.labels)
    expected = {
        "images": ("uint8", (count, *_image_shape(manifest))),
        "logits": ("float32", (count, classes)),
        "probabilities": ("float32", (count, classes)),
    }
    if count < 1:
        raise VersionRefusedError(f"{KNOWN_ANSWERS}: the manifest says {count} images, expected at least one")
    size_bytes = sum(math.prod(shape) * np.dtype(dtype).itemsize for dtype, shape in expected.values())
    if size_bytes > KNOWN_ANSWERS_MAX_BYTES:
        raise VersionRefusedError(
            f"{KNOWN_ANSWERS}: holds {size_bytes} bytes when inflated, expected at most {KNOWN_ANSWERS_MAX_BYTES}"
        )
    for name, wanted in expected.items():
        if (got := _array_header(members, name)) != wanted:
            raise VersionRefusedError(f"{KNOWN_ANSWERS}: {name}: got {got}, expected {wanted}")


def _array_header(members: ZipFile, name: str) -> tuple[str, tuple[int, ...]]:
    """The dtype and the shape of an array, from its first bytes."""
    with members.open(f"{name}.npy") as member:
        is_short = np.lib.format.read_magic(member) == (1, 0)
        read_header = np.lib.format.read_array_header_1_0 if is_short else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(member)
    return str(dtype), shape
