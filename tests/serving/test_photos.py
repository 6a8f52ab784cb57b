"""From the files that people have to images as MNIST's: formats, grounds, orientation, what is refused."""

import zlib
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from serving.errors import InvalidRequestError
from serving.idx import read_images, read_labels
from serving.photos.decode import TURNS, _webp_size
from serving.photos.prepare import from_photo
from serving.pixels import Images
from serving.session import Session
from tests.serving.conftest import MNIST
from tests.serving.photographs import HARDER, photograph
from tests.serving.test_pixels import chunk

MAX_PIXELS = 2**22
SIZE = (28, 28)


def prepare(file: bytes, shape: tuple[int, ...] = SIZE) -> Images:
    """The image that is made of one photo."""
    return from_photo(file, "photos[0]", shape, MAX_PIXELS)


def save(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """A picture as a file."""
    file = BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def scaled(image: Images, factor: int = 10) -> Image.Image:
    """An image of MNIST as a drawing, light on dark."""
    side = factor * len(image)
    return Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC)


def inverted(picture: Image.Image) -> Image.Image:
    """Dark on light."""
    return picture.point([255 - level for level in range(256)])


def distance(one: Images, other: Images) -> float:
    """The mean absolute difference of two images, [0, 255]."""
    return float(np.abs(one.astype(int) - other).mean())


def canvas(image: Images, colour: tuple[int, int, int]) -> Image.Image:
    """A drawing in one colour on nothing at all, as a page's canvas gives it."""
    picture = Image.new("RGBA", scaled(image).size)
    picture.putdata([(*colour, alpha) for alpha in scaled(image).tobytes()])
    return picture


def sixteen_bits(image: Images) -> Image.Image:
    """Grey levels of two bytes."""
    return Image.fromarray(np.asarray(scaled(image)).astype(np.uint16) * 257)


KINDS: Mapping[str, Any] = {
    "a grey PNG": lambda image: save(scaled(image)),
    "a colour PNG": lambda image: save(scaled(image).convert("RGB")),
    "a PNG with a palette": lambda image: save(scaled(image).convert("P")),
    "a PNG with alpha": lambda image: save(scaled(image).convert("LA")),
    "a PNG of 16 bits": lambda image: save(sixteen_bits(image)),
    "dark on light": lambda image: save(inverted(scaled(image))),
    "black on a transparent canvas": lambda image: save(canvas(image, (0, 0, 0))),
    "white on a transparent canvas": lambda image: save(canvas(image, (255, 255, 255))),
    "blue on a transparent canvas": lambda image: save(canvas(image, (20, 40, 200)), "WEBP", lossless=True),
    "a JPEG": lambda image: save(inverted(scaled(image)), "JPEG"),
    "a CMYK JPEG": lambda image: save(inverted(scaled(image)).convert("CMYK"), "JPEG"),
    "a large JPEG": lambda image: save(inverted(scaled(image, 70)).convert("RGB"), "JPEG", quality=70),
    "a WebP": lambda image: save(inverted(scaled(image)), "WEBP"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_drawing_of_an_image_comes_back_as_nearly_itself(kind: str, images: Images) -> None:
    """Ten or more times as large, in whatever format, mode and colours: the grey levels move by a few in a hundred."""
    distances = [distance(prepare(KINDS[kind](image)), image) for image in images[:20]]
    assert np.mean(distances) < 10
    assert max(distances) < 25


@pytest.mark.parametrize("orientation", TURNS)
def test_a_camera_that_was_held_otherwise_is_told_by_exif(orientation: int, images: Images) -> None:
    """What is stored turned or mirrored is prepared upright."""
    undo = {6: TURNS[8], 8: TURNS[6]}.get(orientation, TURNS[orientation])
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    upright = inverted(scaled(images[4]))
    held = prepare(save(upright.transpose(undo), "JPEG", exif=exif))
    assert distance(held, images[4]) < 15 < 25 < distance(prepare(save(upright.transpose(undo), "JPEG")), images[4])


def test_an_image_is_as_mnist_made_them(images: Images) -> None:
    """The longer side of the ink is 20 pixels, its centre of mass in the middle, its darkest 255."""
    for index in range(50):
        image = prepare(photograph(images[index], np.random.default_rng(index)))
        rows, columns = (np.flatnonzero(image.any(axis=axis)) for axis in (1, 0))
        assert 19 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 20
        mass = image / image.sum()
        assert abs(mass.sum(axis=1) @ np.arange(28) - 14) <= 0.6
        assert abs(mass.sum(axis=0) @ np.arange(28) - 14) <= 0.6
        assert image.max() == 255


def test_a_model_of_another_size_gets_its_own(images: Images) -> None:
    """The box is 20 parts of 28 of it."""
    image = prepare(save(scaled(images[0])), (56, 56))
    assert image.shape == (56, 56)
    assert np.ptp(np.flatnonzero(image.any(axis=1))) + 1 == pytest.approx(40, abs=1)


def test_specks_and_what_reaches_in_from_an_edge_are_left_out(images: Images) -> None:
    """Dirt on the paper and a finger on its edge: the image is that of the clean sheet."""
    clean = inverted(scaled(images[0]))
    dirty = clean.copy()
    dirty.paste(0, (20, 20, 24, 24))
    dirty.paste(0, (260, 250, 264, 253))
    dirty.paste(40, (0, 120, 18, 170))
    assert distance(prepare(save(dirty)), prepare(save(clean))) < 1


def blank(level: int, noise: float) -> bytes:
    """A sheet with nothing on it."""
    grain = np.random.default_rng(level).normal(level, noise, (300, 400))
    return save(Image.fromarray(grain.clip(0, 255).astype(np.uint8)), "JPEG")


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(blank(255, 0), id="white"),
        pytest.param(blank(0, 0), id="black"),
        pytest.param(blank(180, 8), id="grey, with noise"),
        pytest.param(save(Image.new("RGBA", (280, 280))), id="a canvas that nobody drew on"),
        pytest.param(save(Image.linear_gradient("L")), id="a gradient"),
        pytest.param(save(Image.new("L", (1, 1))), id="one pixel"),
    ],
)
def test_a_photo_without_ink_is_refused(file: bytes) -> None:
    """No image is made of nothing: the message says what was expected."""
    with pytest.raises(InvalidRequestError, match=r"^photos\[0\]: shows no ink: expected one") as error:
        prepare(file)
    assert error.value.field == "photos[0]"


PICTURE = Image.linear_gradient("L")


def bomb(side: int) -> bytes:
    """A few bytes of PNG that claim side × side pixels."""
    header = chunk(b"IHDR", side.to_bytes(4, "big") * 2 + b"\x08\x00\x00\x00\x00")
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000)))


def webp_bomb() -> bytes:
    """A few bytes of WebP that claim 16,383 × 16,383 pixels."""
    file = bytearray(save(PICTURE.convert("RGBA"), "WEBP", lossless=True, exif=b"Exif\x00\x00"))
    file[24:30] = b"\xfe\x3f\x00" * 2
    return bytes(file)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        pytest.param(b"", "begin with nothing, expected a PNG, JPEG or WebP", id="nothing"),
        pytest.param(b"hello", "begin with 68656c6c, expected", id="text"),
        pytest.param(save(PICTURE, "GIF"), "begin with 47494638, expected", id="a GIF"),
        pytest.param(save(PICTURE, "BMP"), "expected a PNG, JPEG or WebP", id="a BMP"),
        pytest.param(save(PICTURE, "TIFF"), "expected a PNG, JPEG or WebP", id="a TIFF"),
        pytest.param(save(PICTURE)[:300], "cannot be decoded", id="half a PNG"),
        pytest.param(save(PICTURE, "JPEG")[:700], "cannot be decoded", id="half a JPEG"),
        pytest.param(save(PICTURE, "WEBP")[:100], "cannot be decoded", id="half a WebP"),
        pytest.param(b"\xff\xd8\xff", "cannot be decoded", id="the beginning of a JPEG"),
        pytest.param(bomb(60_000), "came 60000 x 60000 pixels, expected 4194304 at most: scale", id="a PNG bomb"),
        pytest.param(webp_bomb(), "pixels, expected|cannot be decoded", id="a WebP bomb"),
        pytest.param(save(Image.new("L", (2048, 2049))), "came 2048 x 2049 pixels", id="a few pixels too many"),
        pytest.param(
            save(PICTURE, save_all=True, append_images=[PICTURE.rotate(90)]), "came an animation", id="a moving PNG"
        ),
        pytest.param(
            save(PICTURE, "WEBP", save_all=True, append_images=[PICTURE.rotate(90)]),
            "came an animation",
            id="a moving WebP",
        ),
    ],
)
def test_a_file_that_is_no_photo_is_refused(file: bytes, message: str) -> None:
    """The message names it, what came and what was expected."""
    with pytest.raises(InvalidRequestError, match=message) as error:
        prepare(file)
    assert error.value.field == "photos[0]"
    assert error.value.message.startswith("photos[0]: ")


def test_a_jpeg_file_of_a_thousand_scans_is_refused(images: Images) -> None:
    """Each would be decoded over all pixels: minutes of work in a file of kilobytes."""
    file = save(inverted(scaled(images[0])), "JPEG", progressive=True)
    first = file.rindex(b"\xff\xda")
    with pytest.raises(InvalidRequestError, match=r"^photos\[0\]: came a JPEG file of 10\d\d scans, expected 100"):
        prepare(file[:first] + 1000 * file[first:-2] + file[-2:])
    assert prepare(file).max() == 255


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 80}, {"quality": 80, "exif": b"Exif\x00\x00"}])
def test_the_size_of_a_webp_file_is_looked_at_before_it_is_opened(options: dict[str, Any]) -> None:
    """In every kind of it: Pillow makes room for all pixels as it opens one."""
    assert _webp_size(save(Image.new("RGB", (301, 203)), "WEBP", **options)) == (301, 203)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (3, 3), (5, 1)])
def test_a_picture_of_a_few_pixels_is_prepared_or_refused(size: tuple[int, int]) -> None:
    """Also where they are nearly the same."""
    for level in (0, 1, 127, 254, 255):
        picture = Image.new("L", size, 255)
        picture.putpixel((0, 0), level)
        prepared_or_refused(save(picture))
        picture = Image.new("L", size, 0)
        picture.putpixel((size[0] - 1, size[1] - 1), level)
        prepared_or_refused(save(picture))


def test_a_model_that_takes_colour_takes_no_photos(images: Images) -> None:
    """Nobody knows which colours it would expect of ink."""
    with pytest.raises(InvalidRequestError, match="the model takes colour"):
        prepare(save(scaled(images[0])), (28, 28, 3))


def prepared_or_refused(file: bytes) -> None:
    """Demand an image or an InvalidRequestError."""
    try:
        image = prepare(file)
    except InvalidRequestError as error:
        assert error.field == "photos[0]"
    else:
        assert image.shape == SIZE
        assert image.dtype == np.uint8


FILES = [save(Image.radial_gradient("L").resize((60, 50)), kind) for kind in ("PNG", "JPEG", "WEBP")]


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_mutated_files_are_prepared_or_refused(data: st.DataObject) -> None:
    """Never another exception, whatever byte is wrong."""
    file = bytearray(data.draw(st.sampled_from(FILES)))
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    prepared_or_refused(bytes(file[: data.draw(st.integers(1, len(file)))]))


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 4, 255]))
def test_pictures_of_anything_are_prepared_or_refused(height: int, width: int, seed: int, levels: int) -> None:
    """Noise of any shape, with much or little in it."""
    noise = np.random.default_rng(seed).integers(0, levels, (height, width)) * (255 // levels)
    prepared_or_refused(save(Image.fromarray(noise.astype(np.uint8))))


@pytest.mark.parametrize("size", [(1, 2000), (2000, 1), (3, 1000), (2, 2)], ids="{0[0]} x {0[1]}".format)
def test_pictures_of_strange_shapes_are_prepared_or_refused(size: tuple[int, int]) -> None:
    """A line of pixels is a picture too."""
    noise = np.random.default_rng(0).integers(0, 256, size[::-1]).astype(np.uint8)
    prepared_or_refused(save(Image.fromarray(noise)))


def accuracy(files: list[bytes], labels: Images, session: Session) -> float:
    """The share of the photos that are classified rightly, [0, 1]."""
    answers = session.run(np.stack([prepared_or_empty(file) for file in files])).probabilities.argmax(axis=1)
    return float((answers == labels).mean())


def prepared_or_empty(file: bytes) -> Images:
    """The image, an empty one where the photo is refused: most likely wrong."""
    try:
        return prepare(file)
    except InvalidRequestError:
        return np.zeros(SIZE, np.uint8)


def photographs(images: Images, *kind: Any) -> list[bytes]:
    """One photograph of each image."""
    return [photograph(image, np.random.default_rng(index), *kind) for index, image in enumerate(images)]


def test_photographs_are_classified_nearly_as_well_as_images(
    images: Images, labels: Images, sessions: Mapping[int, Session]
) -> None:
    """Three hundred photographs, at most a point below the images that they are of; the slow test has them all."""
    images, labels = images[:300], labels[:300]
    on_images = float((sessions[1].run(images).probabilities.argmax(axis=1) == labels).mean())
    on_photographs = accuracy(photographs(images), labels, sessions[1])
    assert on_photographs >= 0.97
    assert on_photographs >= on_images - 0.01


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_ten_thousand_photographs_are_classified_nearly_as_well_as_images(sessions: Mapping[int, Session]) -> None:
    """Every test image, once."""
    images, labels = (
        read_images(MNIST / "t10k-images-idx3-ubyte.gz"),
        read_labels(MNIST / "t10k-labels-idx1-ubyte.gz"),
    )
    right = accuracy(photographs(images), labels, sessions[1])
    print(f"{right:.2%} of 10,000 photographs are read rightly")
    assert right >= 0.975


@pytest.mark.parametrize("kind", HARDER)
def test_what_is_harder_to_see_is_seen_too(
    kind: str, images: Images, labels: Images, sessions: Mapping[int, Session]
) -> None:
    """A fine pen, a blackboard, ruled paper, a shadow, a desk around the sheet."""
    files = photographs(images[:100], *HARDER[kind])
    assert accuracy(files, labels[:100], sessions[1]) >= 0.92
