"""From request bytes to images."""

import zlib
from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from serving.errors import InvalidRequestError
from serving.pixels import Images, from_pixels, from_png


def png(image: Images, mode: str | None = None) -> bytes:
    """An image as a PNG file, of another mode if need be."""
    file = BytesIO()
    Image.fromarray(image).convert(mode).save(file, "PNG")
    return file.getvalue()


PICTURE = np.arange(28 * 28, dtype=np.uint32).reshape(28, 28).astype(np.uint8)


def test_pixels_are_read_row_by_row() -> None:
    """Two images of 2 x 3: the bytes in reading order."""
    images = from_pixels(bytes(range(12)), 2, (2, 3))
    assert images.tolist() == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]


@pytest.mark.parametrize("length", [0, 783, 785, 1568], ids=lambda length: f"{length} bytes")
def test_pixels_of_the_wrong_length_are_refused(length: int) -> None:
    """The message says what came and what was expected."""
    with pytest.raises(InvalidRequestError, match=f"came {length} bytes, expected 784") as error:
        from_pixels(bytes(length), 1, (28, 28))
    assert error.value.field == "pixels"


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA"])
def test_a_grey_picture_survives_png_in_every_mode(mode: str) -> None:
    """Grey in any colour mode decodes to the same pixels."""
    assert np.array_equal(from_png([png(PICTURE, mode)], (28, 28))[0], PICTURE)


def test_pixels_of_colours_are_red_green_blue() -> None:
    """One image of 1 x 2: a red pixel and a blue one."""
    assert from_pixels(bytes([255, 0, 0, 0, 0, 255]), 1, (1, 2, 3)).tolist() == [[[[255, 0, 0], [0, 0, 255]]]]


def test_a_colour_png_is_seen_as_the_model_sees() -> None:
    """Three channels where it takes colour; where it takes grey, the brightness of ITU-R 601-2, as Pillow has it."""
    green = png(np.full((28, 28, 3), (0, 255, 0), np.uint8), "RGB")
    assert from_png([green], (28, 28, 3))[0, 0, 0].tolist() == [0, 255, 0]
    assert from_png([green], (28, 28))[0, 0, 0] == 150


def test_a_grey_png_has_its_grey_in_every_channel() -> None:
    """Where the model takes colour."""
    decoded = from_png([png(PICTURE)], (28, 28, 3))
    assert np.array_equal(decoded[0], np.repeat(PICTURE[..., np.newaxis], 3, axis=2))


def test_the_order_of_files_is_kept() -> None:
    """Image i of the answer is file i."""
    pictures = [np.full((28, 28), value, np.uint8) for value in (3, 1, 2)]
    assert from_png(list(map(png, pictures)), (28, 28))[:, 0, 0].tolist() == [3, 1, 2]


@pytest.mark.parametrize(
    "file",
    [b"", b"hello", png(PICTURE)[:60], png(PICTURE)[:-12], b"\xff\xd8\xff\xe0 JPEG", b"GIF89a"],
    ids=["empty", "text", "cut in the data", "cut at the end", "a JPEG", "a GIF"],
)
def test_a_file_that_cannot_be_decoded_is_named(file: bytes) -> None:
    """The second of two files is at fault, and the error says so."""
    try:
        decoded = from_png([png(PICTURE), file], (28, 28))
    except InvalidRequestError as error:
        assert error.field == "encoded_images[1]"
    else:
        assert np.array_equal(decoded[1], PICTURE), "what is cut may only be what does not matter"


def test_another_size_is_refused_with_both_sizes() -> None:
    """A person learns what to scale to."""
    with pytest.raises(InvalidRequestError, match="came 10 x 20 pixels, expected 28 x 28"):
        from_png([png(np.zeros((20, 10), np.uint8))], (28, 28))


def chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk of a PNG file."""
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


@pytest.mark.parametrize("side", [10_000, 60_000], ids="{} pixels a side".format)
def test_a_decompression_bomb_is_refused_by_its_header(side: int) -> None:
    """Billions of pixels in a few bytes: nothing of it is inflated."""
    header = chunk(b"IHDR", side.to_bytes(4, "big") * 2 + b"\x08\x00\x00\x00\x00")
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000)))
    with pytest.raises(InvalidRequestError, match=f"came {side} x {side} pixels"):
        from_png([bomb], (28, 28))


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_mutated_png_files_decode_or_are_refused(data: st.DataObject) -> None:
    """Never another exception, whatever byte is wrong."""
    file = bytearray(png(PICTURE))
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert from_png([bytes(file)], (28, 28)).shape == (1, 28, 28)
    except InvalidRequestError as error:
        assert error.field == "encoded_images[0]"


@pytest.mark.parametrize("kind", [b"iCCP", b"pHYs", b"tRNS", b"zTXt", b"acTL", b"fcTL", b"eXIf", b"cHRM"])
@pytest.mark.parametrize("place", ["before the data", "before the end"])
def test_a_file_with_an_empty_chunk_decodes_or_is_refused(kind: bytes, place: str) -> None:
    """Pillow raises IndexError and struct.error on some: they are the file's fault, not the server's."""
    file = png(PICTURE)
    at = file.index(b"IDAT" if place == "before the data" else b"IEND") - 4
    try:
        decoded = from_png([file[:at] + chunk(kind, b"") + file[at:]], (28, 28))
    except InvalidRequestError as error:
        assert error.field == "encoded_images[0]"
    else:
        assert np.array_equal(decoded[0], PICTURE)


def test_sixteen_bits_a_colour_are_refused() -> None:
    """Pillow would cut them to eight and say nothing."""
    header = chunk(b"IHDR", (28).to_bytes(4, "big") * 2 + b"\x10\x02\x00\x00\x00")
    rows = zlib.compress((b"\x00" + bytes(28 * 6)) * 28)
    file = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    with pytest.raises(InvalidRequestError, match="more than 8 bits"):
        from_png([file], (28, 28))


def test_an_animation_is_refused() -> None:
    """Nobody can tell which of its pictures was meant."""
    frames = [Image.fromarray(PICTURE), Image.fromarray(255 - PICTURE)]
    file = BytesIO()
    frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
    with pytest.raises(InvalidRequestError, match="animation"):
        from_png([file.getvalue()], (28, 28))


def test_sixteen_bits_a_pixel_are_refused() -> None:
    """Cut to eight they would be another picture."""
    file = BytesIO()
    Image.fromarray(PICTURE.astype(np.uint16) * 257).save(file, "PNG")
    with pytest.raises(InvalidRequestError, match="more than 8 bits"):
        from_png([file.getvalue()], (28, 28))


def test_transparent_pixels_are_refused() -> None:
    """Dark ink on nothing would become an empty picture."""
    picture = np.zeros((28, 28, 4), np.uint8)
    picture[10:20, 10:20, 3] = 255
    file = BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    with pytest.raises(InvalidRequestError, match="transparent pixels"):
        from_png([file.getvalue()], (28, 28))
