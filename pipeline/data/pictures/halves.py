"""Which pictures train and which test: as the folder says, else drawn by their hash; never one picture in both."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.data.dataset import is_test
from pipeline.data.pictures.layout import HALVES, Layout, Picture, shown
from pipeline.errors import DataError

Images = NDArray[np.uint8]


def choose_halves(
    folder: Path, layout: Layout, images: Images, *, test_fraction: float, report: Callable[[str], None]
) -> list[Picture | None]:
    """Every picture with its half; None for one that is left out, as the test has it and would be no test any more.

    Raises DataError where the same pixels have two classes, or where a class has no picture to train or to test with.
    """
    digests = [hashlib.sha256(image.tobytes()).digest() for image in images]
    _check_classes_agree(layout.pictures, digests)
    if layout.pictures[0].half is None:
        drawn = is_test(images, test_fraction).tolist()
        halves = [replace(picture, half=HALVES[tests]) for picture, tests in zip(layout.pictures, drawn, strict=True)]
        advice = f"expected more pictures of it, or another data.test_fraction (it is {test_fraction:g})"
        _check_every_class(folder, layout.labels, halves, advice)
        return [*halves]
    chosen = _leave_out_copies(layout.pictures, digests, report)
    kept = [picture for picture in chosen if picture]
    _check_every_class(folder, layout.labels, kept, "expected some that are not in test/ too: add them")
    return chosen


def _check_classes_agree(pictures: Sequence[Picture], digests: Sequence[bytes]) -> None:
    seen: dict[bytes, Picture] = {}
    for picture, digest in zip(pictures, digests, strict=True):
        first = seen.setdefault(digest, picture)
        if first.label != picture.label:
            raise DataError(
                f"{shown(picture.path)}: shows the same as {shown(first.path)}, which has another class; "
                "expected one class for one picture: remove the wrong one"
            )


def _leave_out_copies(
    pictures: Sequence[Picture], digests: Sequence[bytes], report: Callable[[str], None]
) -> list[Picture | None]:
    tests = {digest for picture, digest in zip(pictures, digests, strict=True) if picture.half == "test"}
    chosen = [
        None if picture.half == "train" and digest in tests else picture
        for picture, digest in zip(pictures, digests, strict=True)
    ]
    if left_out := chosen.count(None):
        first = shown(pictures[chosen.index(None)].path)
        report(f"pictures of train/ that are in test/ too, and so are left out of the training: {left_out}, as {first}")
    return chosen


def _check_every_class(folder: Path, labels: Sequence[str], pictures: Sequence[Picture], advice: str) -> None:
    there = {(picture.half, picture.label) for picture in pictures}
    for half in HALVES:
        for index, label in enumerate(labels):
            if (half, index) not in there:
                raise DataError(f"{shown(folder)}: leaves no picture of class {label} to {half} with; {advice}")
