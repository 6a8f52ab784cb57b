"""Which pictures a folder holds: one directory a class, below train/ and test/ or below the folder itself."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.dataset import FILE_NAMES, Half
from pipeline.data.labels import MIN_CLASSES, check_labels
from pipeline.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
HALVES: tuple[Half, ...] = ("train", "test")
LITTER = {"Thumbs.db", "desktop.ini", "__MACOSX"}  # what file managers leave; hidden files are left out as well


@dataclass(frozen=True)
class Picture:
    """A file, the index of its class, and its half: None where the folder does not say."""

    path: Path
    label: int
    half: Half | None


@dataclass(frozen=True)
class Layout:
    """The names of the classes, and every picture: half by half, class by class, by name."""

    labels: tuple[str, ...]
    pictures: tuple[Picture, ...]


def find_pictures(folder: Path) -> Layout:
    """List the pictures of `folder` in an order that no file system has a say in; DataError names what does not fit."""
    directories = _directories(folder)
    halves = [half for half in HALVES if half in directories]
    if len(halves) == 2:
        return _find_halves(folder, directories)
    if halves and _directories(folder / halves[0]):
        lacking = next(half for half in HALVES if half not in halves)
        raise DataError(f"{folder}: has {halves[0]}/ and no {lacking}/; expected both, or one directory a class")
    if len(directories) < MIN_CLASSES:
        raise DataError(
            f"{folder}: holds no data set; expected {', '.join(FILE_NAMES)} (plain or with .gz), or pictures "
            f"({', '.join(SUFFIXES)}) in one directory a class, of {MIN_CLASSES} classes at least (it has "
            f"{len(directories)} directories)"
        )
    labels = tuple(directories)
    check_labels(folder, labels)
    return Layout(labels, tuple(_pictures(folder, labels, None)))


def shown(path: Path) -> str:
    """A path that can be printed, whatever its bytes are."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _find_halves(folder: Path, directories: Sequence[str]) -> Layout:
    if others := [name for name in directories if name not in HALVES]:
        raise DataError(
            f"{shown(folder / others[0])}: lies beside train/ and test/; expected these two alone (the images that "
            "validate are drawn from train/): move it out of the folder, or its pictures into train/"
        )
    classes: Mapping[Half, tuple[str, ...]] = {half: tuple(_directories(folder / half)) for half in HALVES}
    for half, other in (HALVES, HALVES[::-1]):
        if lacking := sorted(set(classes[half]) - set(classes[other])):
            raise DataError(
                f"{shown(folder / other)}: has no class {lacking[0]!r}, which {half}/ has; expected the same in both"
            )
    labels = classes["train"]
    check_labels(folder / "train", labels)
    return Layout(labels, tuple(picture for half in HALVES for picture in _pictures(folder / half, labels, half)))


def _pictures(folder: Path, labels: Sequence[str], half: Half | None) -> list[Picture]:
    return [Picture(path, index, half) for index, label in enumerate(labels) for path in _of_class(folder / label)]


def _of_class(directory: Path) -> list[Path]:
    paths = _entries(directory)
    for path in paths:
        if path.is_dir():
            raise DataError(f"{shown(path)}: is a directory inside a class; expected pictures alone: move them up")
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise DataError(f"{shown(path)}: is no file; expected pictures alone: remove it")
        if not _is_picture(path):
            raise DataError(
                f"{shown(path)}: is no picture by its name; expected {', '.join(SUFFIXES)}: convert or remove it"
            )
    if not paths:
        raise DataError(f"{shown(directory)}: holds no picture; expected some of this class: add them, or remove it")
    return paths


def _directories(folder: Path) -> list[str]:
    """The names of the directories; files beside them are left alone, unless they are pictures of no class."""
    entries = _entries(folder)
    directories = [path.name for path in entries if path.is_dir()]
    stray = [path for path in entries if _is_picture(path) and not path.is_dir()]
    if stray:
        raise DataError(
            f"{shown(stray[0])}: lies outside a class; expected it in a directory named after what it shows"
        )
    return directories


def _entries(folder: Path) -> list[Path]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names alone
    except OSError as error:
        raise DataError(f"{shown(folder)}: cannot be read: {error.strerror}; expected a folder") from error
    kept = (name for name in names if not name.startswith(".") and name not in LITTER)
    return [folder / name for name in sorted(kept, key=os.fsencode)]


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES
