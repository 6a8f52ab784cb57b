"""Images that move: by hand where a hand can, within their bounds, and the same for the same seed."""

import math

import pytest
import torch
from torch import Tensor

from pipeline.config import Augmentation
from pipeline.training.augment import draw_maps, warp

EVERYTHING = Augmentation(shift_pixels=2.0, rotation_degrees=10.0, scale=0.1)


def random_images(*shape: int) -> Tensor:
    """Random pixels, uint8."""
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def moved(images: Tensor, augmentation: Augmentation, seed: int = 0) -> Tensor:
    """The images as an augmentation with a generator of its own moves them."""
    generator = torch.Generator().manual_seed(seed)
    return warp(images, draw_maps(len(images), images.shape[1], augmentation, generator))


def centres(images: Tensor) -> Tensor:
    """The centre of mass of each image, (image, 2): row and column in pixels from the middle."""
    mass = images.double() / images.double().sum(dim=(1, 2), keepdim=True)
    place = torch.arange(images.shape[1], dtype=torch.float64) - (images.shape[1] - 1) / 2
    return torch.stack([(mass.sum(dim=2) * place).sum(dim=1), (mass.sum(dim=1) * place).sum(dim=1)], dim=1)


def maps(*rows: tuple[float, float, float]) -> Tensor:
    """One affine map, (1, 2, 3)."""
    return torch.tensor([rows], dtype=torch.float32)


def test_the_identity_map_changes_no_pixel() -> None:
    """Interpolation and rounding give back every byte."""
    images = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    assert torch.equal(warp(images, maps((1, 0, 0), (0, 1, 0))), images)


@pytest.mark.parametrize(
    ("columns", "rows", "expected"),
    [
        pytest.param(1, 0, [[2, 3, 0], [5, 6, 0], [8, 9, 0]], id="a column to the left"),
        pytest.param(0, -1, [[0, 0, 0], [1, 2, 3], [4, 5, 6]], id="a row down"),
        pytest.param(-2, 1, [[0, 0, 4], [0, 0, 7], [0, 0, 0]], id="both"),
    ],
)
def test_a_shift_worked_by_hand(columns: int, rows: int, expected: list[list[int]]) -> None:
    """Each pixel shows what lay that many pixels away, and 0 comes in from beyond the border."""
    images = torch.arange(1, 10, dtype=torch.uint8).view(1, 3, 3)
    assert warp(images, maps((1, 0, 2 * columns / 3), (0, 1, 2 * rows / 3))).tolist() == [expected]


def test_a_quarter_turn_is_torchs() -> None:
    """A turn by 90 degrees is exact, so it can be compared with rot90."""
    images = random_images(2, 8, 8)
    assert torch.equal(warp(images, maps((0, -1, 0), (1, 0, 0)).expand(2, 2, 3)), images.rot90(1, dims=(1, 2)))


def test_half_a_pixel_is_the_mean_of_two() -> None:
    """Between two pixels lies their mean, rounded."""
    images = torch.tensor([[[10, 20], [30, 51]]], dtype=torch.uint8)
    assert warp(images, maps((1, 0, 0.5), (0, 1, 0))).tolist() == [[[15, 10], [40, 26]]]  # 20 / 2, 51 / 2


def test_shifts_fill_their_bound() -> None:
    """A dot moves by up to two pixels either way along rows and along columns, evenly and on its own."""
    images = torch.zeros(2000, 9, 9, dtype=torch.uint8)
    images[:, 4, 4] = 255
    places = centres(moved(images, Augmentation(shift_pixels=2.0)))
    assert places.abs().max() <= 2.01
    assert (places.amax(dim=0) > 1.9).all()
    assert (places.amin(dim=0) < -1.9).all()
    assert places.mean(dim=0).abs().max() < 5 * (2 / math.sqrt(3)) / math.sqrt(2000)
    assert abs(torch.corrcoef(places.T)[0, 1].item()) < 5 / math.sqrt(2000)


def test_turns_fill_their_bound() -> None:
    """A dot right of the middle goes round it by up to the angle, and keeps its distance."""
    images = torch.zeros(2000, 41, 41, dtype=torch.uint8)
    images[:, 20, 36] = 255
    places = centres(moved(images, Augmentation(rotation_degrees=30.0)))
    angles = torch.atan2(places[:, 0], places[:, 1]).rad2deg()
    assert 29 < angles.max() < 31
    assert -31 < angles.min() < -29
    torch.testing.assert_close(places.norm(dim=1), torch.full((2000,), 16.0).double(), atol=0.5, rtol=0)


def test_scales_fill_their_bound() -> None:
    """A square grows and shrinks by up to the part, and stays in the middle."""
    images = torch.zeros(2000, 40, 40, dtype=torch.uint8)
    images[:, 10:30, 10:30] = 200
    scaled = moved(images, Augmentation(scale=0.1))
    sides = (scaled.double().sum(dim=(1, 2)) / 200).sqrt()
    assert 20 / 1.1 - 0.1 < sides.min() < 18.4
    assert 22 < sides.max() < 20 / 0.9 + 0.1
    assert centres(scaled).abs().max() < 0.01


def test_the_same_seed_moves_alike() -> None:
    """To the bit, and another seed moves otherwise."""
    images = random_images(5, 28, 28)
    assert torch.equal(moved(images, EVERYTHING), moved(images, EVERYTHING))
    assert not torch.equal(moved(images, EVERYTHING), moved(images, EVERYTHING, seed=1))


def test_the_colours_of_an_image_move_together() -> None:
    """Each channel of (batch, row, column, channel) moves as a grey image would."""
    images = random_images(4, 12, 12, 3)
    result = moved(images, EVERYTHING)
    assert result.shape == images.shape
    for channel in range(3):
        assert torch.equal(result[..., channel], moved(images[..., channel], EVERYTHING))
