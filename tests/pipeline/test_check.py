"""A data set is looked at before anything is trained on it, and a bad file is named with its fault."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.check import DataSummary, check
from pipeline.data.dataset import IMAGES, LABELS, Dataset
from pipeline.data.split import load_split
from pipeline.errors import DataError
from pipeline.fetch import fetch
from tests.pipeline.idx_files import Arrays, encode_idx, write_folder

# Two black and two white images of 4 x 4 pixels, and one grey image of each class to test with.
TINY: Arrays = {
    IMAGES["train"]: np.array([0, 0, 255, 255], np.uint8)[:, None, None] * np.ones((4, 4, 4), np.uint8),
    LABELS["train"]: np.array([0, 0, 1, 2], np.uint8),
    IMAGES["test"]: np.full((3, 4, 4), 128, np.uint8),
    LABELS["test"]: np.array([0, 1, 2], np.uint8),
}


@pytest.fixture
def dataset_of(tmp_path: Path) -> Callable[[Arrays], Dataset]:
    """A function that makes a data set of arrays."""
    return lambda arrays: fetch(write_folder(tmp_path / "data", arrays), download=False, cache=tmp_path)


def test_mnist_is_what_everybody_says(mnist: Dataset) -> None:
    """The counts, the mean and the deviation are the known ones of MNIST, before any of it is set aside."""
    summary = check(replace(mnist, validation_fraction=0.0), classes=10, size=28)
    assert summary == DataSummary(
        train_count=60_000,
        validation_count=0,
        test_count=10_000,
        height=28,
        width=28,
        channels=1,
        label_counts=(5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
        means=(0.1307,),
        stds=(0.3081,),
        mean=0.1307,
        std=0.3081,
    )


def test_a_data_set_worked_by_hand(dataset_of: Callable[[Arrays], Dataset]) -> None:
    """Half black and half white has mean and deviation one half; the test images do not count."""
    summary = check(dataset_of(TINY), classes=3, size=4)
    assert summary == DataSummary(
        4, 0, 3, 4, 4, 1, label_counts=(2, 1, 1), means=(0.5,), stds=(0.5,), mean=0.5, std=0.5
    )


def test_every_channel_has_its_own_mean(dataset_of: Callable[[Arrays], Dataset]) -> None:
    """Red is half black and half full, green a quarter full, blue three quarters: worked by hand."""
    images = np.zeros((4, 4, 4, 3), np.uint8)
    images[:2, ..., 0] = images[:1, ..., 1] = images[:3, ..., 2] = 255
    coloured = {**TINY, IMAGES["train"]: images, IMAGES["test"]: images[:3]}
    summary = check(dataset_of(coloured), classes=3, size=4, channels=3)
    assert summary.channels == 3
    assert summary.image_shape == (4, 4, 3)
    assert summary.means == (0.5, 0.25, 0.75)
    assert summary.stds == (0.5, 0.433, 0.433)
    assert (summary.mean, summary.std) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        pytest.param({"size": 8}, "images of 4 x 4 pixels; expected 8 x 8 .*: begin network.sizes with 4", id="size"),
        pytest.param({"channels": 3}, "holds grey images; .*: begin network.features with 1", id="channels"),
        pytest.param({"classes": 2}, "label 3 is 2; expected 0 to 1: set network.classes", id="classes"),
    ],
)
def test_a_network_that_does_not_fit_is_told_what_to_change(
    dataset_of: Callable[[Arrays], Dataset], needs: dict[str, int], message: str
) -> None:
    """The preset's key stands in the message."""
    with pytest.raises(DataError, match=message):
        check(dataset_of(TINY), **{"classes": 3, "size": 4, **needs})


def test_colour_for_a_grey_network_is_refused(dataset_of: Callable[[Arrays], Dataset]) -> None:
    """As grey is for a network of colour."""
    coloured = {**TINY, IMAGES["train"]: np.repeat(TINY[IMAGES["train"]][..., None], 3, axis=3)}
    with pytest.raises(DataError, match=r"holds colour images; .*: begin network.features with 3"):
        check(dataset_of(coloured), classes=3, size=4)


def test_a_channel_that_shows_nothing_is_refused(dataset_of: Callable[[Arrays], Dataset]) -> None:
    """Nothing can be divided by its deviation."""
    images = np.repeat(TINY[IMAGES["train"]][..., None], 3, axis=3)
    images[..., 2] = 7
    coloured = {**TINY, IMAGES["train"]: images, IMAGES["test"]: images[:3]}
    with pytest.raises(DataError, match="every pixel has about the same blue"):
        check(dataset_of(coloured), classes=3, size=4, channels=3)


def test_without_names_the_labels_are_numbers(dataset_of: Callable[[Arrays], Dataset]) -> None:
    """As many as the training labels say."""
    assert dataset_of(TINY).labels == ("0", "1", "2")


def test_names_lie_beside_the_files(dataset_of: Callable[[Arrays], Dataset], tmp_path: Path) -> None:
    """One a line; the data set's digests have them, as the manifest will."""
    write_folder(tmp_path / "data", {})
    (tmp_path / "data" / "labels.txt").write_bytes("\ufeffblack\r\nwhite\r\ngrün\r\n".encode())
    dataset = dataset_of(TINY)
    assert dataset.labels == ("black", "white", "grün")
    assert set(dataset.sha256) == {*TINY, "labels.txt"}
    assert check(dataset, classes=3, size=4).train_count == 4


def test_names_of_other_classes_than_the_networks_are_refused(
    dataset_of: Callable[[Arrays], Dataset], tmp_path: Path
) -> None:
    """The message says what to set."""
    write_folder(tmp_path / "data", {})
    (tmp_path / "data" / "labels.txt").write_text("black\nwhite\n")
    with pytest.raises(DataError, match=r"has 2 classes, black to white; .* set network.classes = 2"):
        check(dataset_of(TINY), classes=3, size=4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "names 0 classes; expected 2 to 256", id="empty"),
        pytest.param(b"a\n", "names 1 classes", id="one class"),
        pytest.param(b"".join(b"%d\n" % index for index in range(257)), "names 257 classes", id="more than a byte"),
        pytest.param(b"a\nb\na\n", "names the class 'a' 2 times", id="twice the same"),
        pytest.param(b"a\n\nb\n", "the class name '' is empty", id="an empty line"),
        pytest.param(b"a\nb \n", "blanks at its ends", id="a blank that nobody sees"),
        pytest.param(b"a\nb\x07\n", "control characters", id="a bell"),
        pytest.param(b"a\n\xff\n", "cannot be read: .*; expected UTF-8", id="no UTF-8"),
    ],
)
def test_bad_names_are_refused(
    dataset_of: Callable[[Arrays], Dataset], tmp_path: Path, content: bytes, message: str
) -> None:
    """The message begins with the file's path."""
    write_folder(tmp_path / "data", {})
    (tmp_path / "data" / "labels.txt").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        dataset_of(TINY)
    assert str(caught.value).startswith(f"{tmp_path / 'data' / 'labels.txt'}: ")


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        pytest.param(
            LABELS["train"], np.array([0, 1, 2], np.uint8), "holds 3 labels; expected 4", id="a label too few"
        ),
        pytest.param(
            LABELS["test"], np.array([0, 1, 2, 0], np.uint8), "holds 4 labels; expected 3", id="a label too many"
        ),
        pytest.param(
            LABELS["train"], np.array([0, 1, 2, 3], np.uint8), "label 3 is 3; expected 0 to 2", id="an unknown label"
        ),
        pytest.param(
            LABELS["train"], np.array([0, 0, 2, 2], np.uint8), "has no image of class 1", id="a class to learn missing"
        ),
        pytest.param(
            LABELS["test"], np.array([0, 1, 1], np.uint8), "has no image of class 2", id="a class to test missing"
        ),
        pytest.param(LABELS["test"], TINY[IMAGES["test"]], "holds images .*; expected labels", id="images as labels"),
        pytest.param(IMAGES["train"], TINY[LABELS["train"]], "holds labels .*; expected images", id="labels as images"),
        pytest.param(
            IMAGES["train"], np.ones((4, 4, 5), np.uint8), "images of 4 x 5 pixels; expected 4 x 4", id="wide"
        ),
        pytest.param(
            IMAGES["test"], np.ones((3, 8, 8), np.uint8), "images of 8 x 8 pixels; expected 4 x 4", id="large"
        ),
        pytest.param(IMAGES["test"], np.ones((0, 4, 4), np.uint8), "holds no image", id="no image"),
        pytest.param(IMAGES["train"], np.ones((4, 4, 4), np.uint8), "about the same grey", id="nothing to see"),
    ],
)
def test_a_bad_file_is_named_with_its_fault(
    dataset_of: Callable[[Arrays], Dataset], name: str, array: np.ndarray, message: str
) -> None:
    """Whatever is wrong with one file, the message starts with its path and says what was expected."""
    dataset = dataset_of({**TINY, name: array})
    with pytest.raises(DataError, match=message) as caught:
        check(dataset, classes=3, size=4)
    assert str(caught.value).startswith(f"{dataset.folder / name}: ")


def test_a_file_changed_since_the_fetch_is_refused(dataset_of: Callable[[Arrays], Dataset]) -> None:
    """Bytes other than those fetched stop every later step, good as the file may be in itself."""
    dataset = dataset_of(TINY)
    name = LABELS["test"]
    (dataset.folder / name).write_bytes(encode_idx(np.array([2, 1, 0], np.uint8)))
    with pytest.raises(DataError, match=rf"{name}: its sha256 is .*; expected .* as fetched; fetch again"):
        load_split(dataset, "test", torch.device("cpu"))


def test_a_split_is_tensors_on_the_device(dataset_of: Callable[[Arrays], Dataset], cpu: torch.device) -> None:
    """Images come as uint8, labels as int64, in the order of the files."""
    split = load_split(dataset_of(TINY), "train", cpu)
    assert (split.images.dtype, tuple(split.images.shape)) == (torch.uint8, (4, 4, 4))
    assert split.images[:, 0, 0].tolist() == [0, 0, 255, 255]
    assert (split.labels.dtype, split.labels.tolist()) == (torch.int64, [0, 0, 1, 2])
