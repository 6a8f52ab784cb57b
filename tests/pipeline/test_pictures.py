"""A folder of pictures becomes IDX files, the same ones wherever it lies, or is refused with a sentence."""

import os
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data.dataset import IMAGES, LABELS, Dataset, is_test, is_validation, read_file
from pipeline.data.pictures.convert import SUMS
from pipeline.errors import DataError
from pipeline.fetch import fetch
from scripts.make_letters import make_letters

Pixels = np.ndarray

RANDOM = np.random.default_rng(0)
START = RANDOM.bit_generator.state


def picture(*shape: int) -> Pixels:
    """Noise, uint8."""
    return RANDOM.integers(0, 256, shape, np.uint8)


def encoded(pixels: Pixels, kind: str = "PNG", **options: object) -> bytes:
    """Pixels as the bytes of a file."""
    file = BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def write(path: Path, content: bytes | Pixels) -> None:
    """Write a file, pixels as PNG, and the directories above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else encoded(content))


def write_each(paths: list[Path]) -> None:
    """Write a picture to each path."""
    for path in paths:
        write(path, picture(6, 6))


def clear(folder: Path) -> Path:
    """Take everything out of a folder, and return it."""
    shutil.rmtree(folder)
    folder.mkdir()
    return folder


Fetch = Callable[..., Dataset]


@pytest.fixture(autouse=True)
def same_noise() -> None:
    """Every test draws the same pictures: by their hashes, a few in a thousand would leave a class without a test."""
    RANDOM.bit_generator.state = START


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Thirty grey pictures of 6 x 6 pixels of each of two classes."""
    for label in ("cat", "dog"):
        for index in range(30):
            write(tmp_path / "pets" / label / f"{index:02}.png", picture(6, 6))
    return tmp_path / "pets"


@pytest.fixture
def halved(tmp_path: Path) -> Path:
    """Two classes below train/ and test/, three pictures of each in both."""
    for half in ("train", "test"):
        for label in ("cat", "dog"):
            for index in range(3):
                write(tmp_path / "halved" / half / label / f"{index}.png", picture(6, 6))
    return tmp_path / "halved"


@pytest.fixture
def read(tmp_path: Path) -> Fetch:
    """The step `fetch`, with a cache of its own."""

    def fetch_folder(folder: Path, **options: object) -> Dataset:
        given = {"test_fraction": 0.3, "download": False, "cache": tmp_path / "cache"}
        return fetch(folder, **{**given, **options})  # type: ignore[arg-type]

    return fetch_folder


def test_pictures_become_idx_files_with_names(folder: Path, read: Fetch) -> None:
    """Every picture is in one half, with the number of its class, whose name stands in labels.txt."""
    dataset = read(folder)
    assert (dataset.name, dataset.source, dataset.labels) == ("pets", "folder of pictures", ("cat", "dog"))
    assert (dataset.folder / "labels.txt").read_text() == "cat\ndog\n"
    assert len(dataset.sha256) == 5
    expected = {
        (label, np.asarray(Image.open(path)).tobytes())
        for label, name in enumerate(dataset.labels)
        for path in (folder / name).iterdir()
    }
    came = {
        (label, image.tobytes())
        for half in ("train", "test")
        for image, label in zip(read_file(dataset, IMAGES[half]), read_file(dataset, LABELS[half]), strict=True)
    }
    assert came == expected


def test_no_picture_is_in_two_splits(folder: Path, read: Fetch) -> None:
    """The test is one end of the hashes, the validation the other; a copy goes where the first is."""
    for path in sorted((folder / "cat").iterdir()):
        shutil.copy(path, path.with_name(f"copy of {path.name}"))
    dataset = read(folder, validation_fraction=0.3)
    train, test = (read_file(dataset, IMAGES[half]) for half in ("train", "test"))
    assert is_test(test, 0.3).all()
    assert not is_test(train, 0.3).any()
    assert not is_validation(test, 0.3).any()
    assert is_validation(train, 0.3).any()
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in test}
    assert len(train) + len(test) == 90


def test_the_share_for_the_test_is_about_what_was_asked() -> None:
    """Of 2,000 images a fifth, within four standard deviations."""
    assert abs(is_test(picture(2000, 4, 4), 0.2).mean() - 0.2) < 0.036


def test_the_halves_of_a_folder_are_kept(halved: Path, read: Fetch) -> None:
    """What lies below test/ tests, and nothing else."""
    dataset = read(halved)
    for half in ("train", "test"):
        paths = sorted((halved / half).rglob("*.png"))
        assert [image.tolist() for image in read_file(dataset, IMAGES[half])] == [
            np.asarray(Image.open(path)).tolist() for path in paths
        ]
        assert read_file(dataset, LABELS[half]).tolist() == [0, 0, 0, 1, 1, 1]


def test_a_training_picture_that_the_test_has_is_left_out(halved: Path, read: Fetch) -> None:
    """Else the test would be none; the run says how many they were."""
    shutil.copy(halved / "test" / "dog" / "1.png", halved / "train" / "dog" / "again.png")
    said: list[str] = []
    dataset = read(halved, report=said.append)
    assert read_file(dataset, LABELS["train"]).tolist() == [0, 0, 0, 1, 1, 1]
    assert any("left out of the training: 1, as" in line and "again.png" in line for line in said)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "WEBP"])
@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_grey_stays_grey_in_every_kind_of_file(folder: Path, read: Fetch, kind: str, mode: str) -> None:
    """A grey picture that was saved in colours is grey all the same."""
    grey = picture(6, 6)
    file = BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {}
    Image.fromarray(grey).convert(mode).save(file, kind, **options)
    (folder / "cat" / "00.png").unlink()
    write(folder / "cat" / f"00.{kind.lower()}", file.getvalue())
    dataset = read(folder)
    images = np.concatenate([read_file(dataset, name) for name in IMAGES.values()])
    assert images.shape == (60, 6, 6)
    assert grey.tobytes() in {image.tobytes() for image in images}


def test_one_colour_makes_all_pictures_coloured(folder: Path, read: Fetch) -> None:
    """The grey ones have their grey in all three channels."""
    colour = picture(6, 6, 3)
    write(folder / "dog" / "07.png", colour)
    dataset = read(folder)
    images = np.concatenate([read_file(dataset, name) for name in IMAGES.values()])
    assert images.shape == (60, 6, 6, 3)
    assert colour.tobytes() in {image.tobytes() for image in images}
    assert sum(bool((image == image[..., :1]).all()) for image in images) == 59


def test_a_jpeg_lies_as_its_camera_was_held(folder: Path, read: Fetch) -> None:
    """EXIF's orientation 3 is upside down."""
    halves = np.repeat(np.array([0, 255], np.uint8), 8)[:, None] * np.ones(16, np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 3
    shutil.rmtree(folder)
    for label, pixels in (("up", halves), ("level", halves.T)):
        for index in range(30):
            shade = np.full((16, 16), index, np.uint8) // 2
            write(folder / label / f"{index}.jpg", encoded(np.maximum(pixels, shade), "JPEG", exif=exif, quality=95))
    dataset = read(folder)
    images, labels = read_file(dataset, IMAGES["train"]), read_file(dataset, LABELS["train"])
    up = images[labels == dataset.labels.index("up")]
    assert (up[:, 0, 0] > 200).all()
    assert (up[:, -1, -1] < 50).all()


def test_two_conversions_give_the_same_digests(tmp_path: Path, read: Fetch) -> None:
    """Whatever the order in which the files were made, wherever the folder lies and however it is called."""
    first = make_letters(tmp_path / "first", count=30, size=8)
    second = tmp_path / "second"
    for path in sorted(first.rglob("*.png"), reverse=True):
        write(second / path.relative_to(first), path.read_bytes())
    one, two = (read(folder, cache=tmp_path / folder.name / ".cache") for folder in (first, second))
    assert one.sha256 == two.sha256
    assert one.folder.name == two.folder.name


def test_an_unchanged_folder_is_not_converted_again(folder: Path, read: Fetch) -> None:
    """Files that are there and whole are used as they are."""
    said: list[str] = []
    first = read(folder, report=said.append)
    before = {path: path.stat().st_mtime_ns for path in first.folder.iterdir()}
    assert read(folder, report=said.append) == first
    assert {path: path.stat().st_mtime_ns for path in first.folder.iterdir()} == before
    assert sum("reading 60 pictures" in line for line in said) == 1


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda folder: write(folder / "cat" / "00.png", picture(6, 6)), id="other pixels"),
        pytest.param(lambda folder: write(folder / "cat" / "new.png", picture(6, 6)), id="one more"),
        pytest.param(lambda folder: (folder / "cat" / "00.png").unlink(), id="one less"),
        pytest.param(lambda folder: (folder / "cat").rename(folder / "lion"), id="another name of a class"),
    ],
)
def test_a_changed_folder_is_converted_anew(folder: Path, read: Fetch, change: Callable[[Path], object]) -> None:
    """The cache never answers for what is no longer there."""
    first = read(folder)
    change(folder)
    assert read(folder).sha256 != first.sha256


@pytest.mark.parametrize("name", [*IMAGES.values(), "labels.txt", SUMS])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_cache_is_made_anew(folder: Path, read: Fetch, name: str, damage: str) -> None:
    """Its own checksums tell."""
    first = read(folder)
    path = first.folder / name
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    assert read(folder) == first
    assert [entry.name for entry in first.folder.parent.iterdir()] == [first.folder.name]


def test_what_file_managers_leave_is_no_picture(folder: Path, read: Fetch) -> None:
    """Hidden files, thumbnails, and what lies beside the classes and is no picture."""
    first = read(folder)
    for name in (".DS_Store", "cat/.hidden.png", "cat/Thumbs.db", "README.txt", "labels.csv"):
        write(folder / name, b"anything")
    assert read(folder) == first


def test_a_file_name_that_is_no_text_is_no_fault(folder: Path, read: Fetch) -> None:
    """Linux keeps any bytes; only the names of classes must be text."""
    os.rename(folder / "cat" / "00.png", os.fsencode(folder / "cat") + b"/\xff.png")  # noqa: PTH104 - bytes
    assert len(read_file(read(folder), LABELS["train"]))


Break = Callable[[Path], object]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(
            lambda f: write(f / "cat/00.png", b""), r"00\.png: 0 bytes that cannot be decoded", id="empty file"
        ),
        pytest.param(lambda f: write(f / "cat/00.png", b"text"), r"00\.png: 4 bytes that cannot be decoded", id="text"),
        pytest.param(
            lambda f: write(f / "cat/00.jpg", encoded(picture(6, 6), "JPEG")[:-40]),
            r"00\.jpg: \d+ bytes that cannot be decoded",
            id="a truncated JPEG",
        ),
        pytest.param(
            lambda f: write(f / "dog/03.png", encoded(picture(6, 6))[:50]), r"03\.png: 50 bytes", id="a truncated PNG"
        ),
        pytest.param(
            lambda f: write(f / "cat/00.png", encoded(picture(6, 6), "TIFF")), "cannot be decoded", id="another format"
        ),
        pytest.param(
            lambda f: write(f / "cat/00.png", picture(6, 8)), "8 x 6 pixels; expected a square", id="no square"
        ),
        pytest.param(
            lambda f: write(f / "dog/00.png", picture(8, 8)),
            r"dog/00\.png: has 8 x 8 pixels; expected 6 x 6",
            id="large",
        ),
        pytest.param(
            lambda f: write(f / "cat/00.png", picture(6, 6, 4)), r"00\.png: has transparent pixels", id="alpha"
        ),
        pytest.param(
            lambda f: write(f / "cat/00.png", picture(6, 6).astype(np.uint16) * 257), "more than 8 bits", id="16 bits"
        ),
        pytest.param(
            lambda f: write(
                f / "cat/00.gif",
                encoded(picture(6, 6), "GIF", save_all=True, append_images=[Image.fromarray(picture(6, 6))]),
            ),
            r"00\.gif: is an animation",
            id="an animation",
        ),
        pytest.param(
            lambda f: Image.new("CMYK", (6, 6)).save(f / "cat" / "00.jpg"), "colours of the mode CMYK", id="CMYK"
        ),
        pytest.param(
            lambda f: write(f / "cat/notes.txt", b"x"), r"notes\.txt: is no picture by its name", id="stray file"
        ),
        pytest.param(
            lambda f: write(f / "cat/old/1.png", picture(6, 6)), "cat/old: is a directory inside", id="nested"
        ),
        pytest.param(lambda f: write(f / "x.png", picture(6, 6)), r"x\.png: lies outside a class", id="stray picture"),
        pytest.param(lambda f: (f / "bird").mkdir(), "bird: holds no picture", id="an empty class"),
        pytest.param(lambda f: os.mkfifo(f / "cat/0.png"), r"0\.png: is no file", id="a pipe"),
        pytest.param(lambda f: (f / "cat/0.png").symlink_to("x"), r"0\.png: cannot be read", id="a link to nothing"),
        pytest.param(lambda f: shutil.rmtree(f / "cat"), "of 2 classes at least .it has 1 directories", id="one class"),
        pytest.param(
            lambda f: write_each([f / f"{index:03}" / "1.png" for index in range(255)]),
            "names 257 classes; expected 2 to 256",
            id="more classes than a byte can name",
        ),
        pytest.param(
            lambda f: Path(os.fsdecode(os.fsencode(f) + b"/\xff")).mkdir(),
            "no UTF-8",
            id="a class name that is no text",
        ),
        pytest.param(
            lambda f: (f / "cat").rename(f / "ca\nt"), "has control characters", id="a class name of two lines"
        ),
        pytest.param(
            lambda f: shutil.copy(f / "cat/00.png", f / "dog/00.png"),
            r"dog/00\.png: shows the same as .*cat/00\.png, which has another class",
            id="one picture in two classes",
        ),
        pytest.param(
            lambda f: [path.unlink() for path in (f / "cat").iterdir() if path.name != "00.png"],
            "leaves no picture of class cat to (test|train) with",
            id="too few to divide",
        ),
        pytest.param(clear, "holds no data set; expected train-images", id="nothing"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(folder: Path, read: Fetch, damage: Break, message: str) -> None:
    """The message names the first that does not fit, can be printed anywhere, and no cache is left behind."""
    damage(folder)
    with pytest.raises(DataError, match=message) as caught:
        read(folder)
    str(caught.value).encode()
    assert not list((folder.parent / "cache").glob("*"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda f: shutil.rmtree(f / "test"), "has train/ and no test/", id="no test"),
        pytest.param(
            lambda f: shutil.rmtree(f / "test/dog"), "test: has no class 'dog', which train/ has", id="a class less"
        ),
        pytest.param(
            lambda f: write(f / "test/owl/1.png", picture(6, 6)),
            "train: has no class 'owl', which test/",
            id="a class more",
        ),
        pytest.param(
            lambda f: write(f / "val/cat/1.png", picture(6, 6)), "val: lies beside train/ and test/", id="a third"
        ),
        pytest.param(lambda f: write(f / "train/1.png", picture(6, 6)), r"1\.png: lies outside a class", id="no class"),
        pytest.param(
            lambda f: shutil.copytree(f / "test/cat", clear(f / "train/cat"), dirs_exist_ok=True),
            "leaves no picture of class cat to train with; expected some that are not in test/",
            id="nothing that the test has not",
        ),
    ],
)
def test_halves_that_do_not_fit_are_refused(halved: Path, read: Fetch, damage: Break, message: str) -> None:
    """The message names what lacks or is too much."""
    damage(halved)
    with pytest.raises(DataError, match=message):
        read(halved)


def test_a_decompression_bomb_is_refused(folder: Path, read: Fetch) -> None:
    """Pixels without end in a small file are not inflated, also where no other picture has said the size."""
    Image.new("1", (30_000, 30_000)).save(folder / "cat" / "00.png")
    with pytest.raises(DataError, match=r"00\.png: \d+ bytes that cannot be decoded \(Decompression"):
        read(folder)


def test_a_cache_that_cannot_be_written_is_refused(folder: Path, read: Fetch, tmp_path: Path) -> None:
    """A file lies where the folder should."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cannot be written: .*; expected a cache"):
        read(folder, cache=tmp_path / "file")
