"""A data set in a folder of one's own: four IDX files in MNIST's layout, or pictures in one directory a class."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from pipeline.data.dataset import FILE_NAMES, LABELS, Dataset, locate
from pipeline.data.idx import read_idx
from pipeline.data.labels import LABEL_NAMES, read_labels
from pipeline.data.pictures.convert import convert
from pipeline.errors import DataError


def read_folder(folder: Path, cache: Path, *, test_fraction: float, report: Callable[[str], None]) -> Dataset:
    """Describe the data set in `folder`; pictures become IDX files in `cache` first. DataError says what is wrong."""
    if not folder.is_dir():
        raise DataError(f"{folder}: is no folder; expected one that holds {', '.join(FILE_NAMES)}, or pictures")
    name = folder.resolve().name
    if any((folder / f"{name}{suffix}").exists() for name in FILE_NAMES for suffix in ("", ".gz")):
        return _read_idx_folder(folder, name, "folder")
    made = convert(folder, cache, test_fraction=test_fraction, report=report)
    return _read_idx_folder(made, name, "folder of pictures")


def _read_idx_folder(folder: Path, name: str, source: str) -> Dataset:
    files = {name: read_idx(locate(folder, name)) for name in FILE_NAMES}
    sha256 = {name: file.sha256 for name, file in files.items()}
    labels = read_labels(folder)
    if labels is None:
        numbers = files[LABELS["train"]].array
        labels = tuple(map(str, range(int(numbers.max(initial=0)) + 1)))
    else:
        sha256[LABEL_NAMES] = hashlib.sha256((folder / LABEL_NAMES).read_bytes()).hexdigest()
    return Dataset(name=name, source=source, folder=folder, sha256=sha256, labels=labels)
