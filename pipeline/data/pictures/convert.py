"""A folder of pictures as IDX files in the cache, so that everything after reads one format.

The files lie in a folder that is named by what they were made of: the pictures' names and bytes, the share for the
test, and the version of Pillow. It is used again as long as its own checksums hold, and may be deleted at any time.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import PIL

from pipeline.data.dataset import IMAGES, LABELS
from pipeline.data.idx import COLOURS, MAX_ELEMENT_BYTES, write_idx
from pipeline.data.labels import LABEL_NAMES, write_labels
from pipeline.data.pictures.decode import Pixels, decode
from pipeline.data.pictures.halves import Images, choose_halves
from pipeline.data.pictures.layout import HALVES, Layout, Picture, find_pictures, shown
from pipeline.errors import DataError

SUMS = "SHA256SUMS"
RULES = 1
"""To be raised when the same pictures are to become other files."""

Report = Callable[[str], None]


def convert(folder: Path, cache: Path, *, test_fraction: float, report: Report) -> Path:
    """Write the pictures of `folder` as IDX files below `cache`, unless they are there, and return where.

    Where the folder has no test/, the images whose hash lies in the last `test_fraction` of all hashes are the test.
    DataError names the first picture that does not fit, and says what to do.
    """
    layout = find_pictures(folder)
    digests = [hashlib.sha256(_read(picture.path)).hexdigest() for picture in layout.pictures]
    made = cache / f"pictures-{_key(folder, layout, digests, test_fraction)}"
    if not _is_whole(made):
        report(f"reading {len(layout.pictures)} pictures of {len(layout.labels)} classes in {folder}")
        images = _images(layout.pictures, digests)
        pictures = choose_halves(folder, layout, images, test_fraction=test_fraction, report=report)
        _write(made, layout.labels, pictures, images)
    return made


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{shown(path)}: cannot be read: {error.strerror}; expected a picture") from error


def _key(folder: Path, layout: Layout, digests: Sequence[str], test_fraction: float) -> str:
    names = [ascii(picture.path.relative_to(folder).as_posix()) for picture in layout.pictures]
    parts = [RULES, PIL.__version__, test_fraction, layout.labels, list(zip(names, digests, strict=True))]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _images(pictures: Sequence[Picture], digests: Sequence[str]) -> Images:
    """Every picture, uint8 (image, row, column), or (image, row, column, 3) as soon as one of them has a colour."""
    arrays: list[Pixels] = []
    for picture, digest in zip(pictures, digests, strict=True):
        content = _read(picture.path)
        if hashlib.sha256(content).hexdigest() != digest:
            raise DataError(f"{shown(picture.path)}: changed while the folder was read; run again when it is at rest")
        arrays.append(decode(content, picture.path, size=len(arrays[0]) if arrays else None))
        _check_total(picture, arrays, len(pictures))
    if all(array.ndim == 2 for array in arrays):
        return np.stack(arrays)
    return np.stack([array if array.ndim == 3 else np.repeat(array[..., None], COLOURS, axis=2) for array in arrays])


def _check_total(picture: Picture, arrays: Sequence[Pixels], count: int) -> None:
    total_bytes = count * arrays[-1].size
    if total_bytes > MAX_ELEMENT_BYTES:
        size = len(arrays[-1])
        raise DataError(
            f"{shown(picture.path)}: {count} pictures of {size} x {size} pixels are {total_bytes} bytes; expected at "
            f"most {MAX_ELEMENT_BYTES}: scale them down"
        )


def _write(made: Path, labels: tuple[str, ...], pictures: Sequence[Picture | None], images: Images) -> None:
    """Write all files beside the place where they belong; they get their name when all are there."""
    try:
        made.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=made.parent, prefix=".pictures-") as name:
            unfinished = Path(name) / "idx"
            unfinished.mkdir()
            for half in HALVES:
                chosen = [index for index, picture in enumerate(pictures) if picture and picture.half == half]
                of_half = [picture.label for picture in pictures if picture and picture.half == half]
                write_idx(unfinished / IMAGES[half], images[chosen])
                write_idx(unfinished / LABELS[half], np.array(of_half, np.uint8))
            write_labels(unfinished / LABEL_NAMES, labels)
            sums = "".join(f"{_sha256(path)}  {path.name}\n" for path in sorted(unfinished.iterdir()))
            (unfinished / SUMS).write_text(sums)
            shutil.rmtree(made, ignore_errors=True)  # no longer whole, if it is there at all
            unfinished.rename(made)
    except OSError as error:
        if not _is_whole(made):  # else another run was faster
            raise DataError(f"{made}: cannot be written: {error.strerror}; expected a cache with room") from error


def _is_whole(made: Path) -> bool:
    """Whether every file has the checksum that was written with it."""
    try:
        lines = (made / SUMS).read_text().splitlines()
        return bool(lines) and all(
            _sha256(made / name) == digest for digest, _, name in (x.partition("  ") for x in lines)
        )
    except OSError:
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
