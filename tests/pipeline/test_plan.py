"""What an epoch is made of: every image once, moved as its seed says, whatever the device."""

from collections.abc import Mapping

import pytest
import torch

from pipeline.config import Augmentation, Training
from pipeline.training.plan import batch_sizes, draw_plans

RECIPE: Mapping[str, object] = {
    "optimizer": "sgd",
    "schedule": "constant",
    "learning_rate": 0.1,
    "weight_decay": 0.0,
    "batch_size": 4,
    "epochs": 2,
    "seed": 0,
}
MOVED = Augmentation(shift_pixels=2.0, rotation_degrees=10.0, scale=0.1)


def recipe(**changes: object) -> Training:
    """Two epochs in batches of four, with some values changed."""
    return Training.model_validate({**RECIPE, **changes})


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        pytest.param(10, [4, 4, 2], id="a rest"),
        pytest.param(8, [4, 4], id="no rest"),
        pytest.param(3, [3], id="less than one"),
    ],
)
def test_the_last_batch_takes_what_is_left(count: int, sizes: list[int]) -> None:
    """All batches are full but the last."""
    assert batch_sizes(count, 4) == sizes


def test_an_epoch_has_every_image_once() -> None:
    """In another order than the epoch before."""
    first, second = draw_plans(10, 28, recipe())
    assert sorted(first.order.tolist()) == sorted(second.order.tolist()) == list(range(10))
    assert first.order.tolist() != second.order.tolist()


def test_a_seed_decides_on_everything() -> None:
    """The same seed draws the same plans, another draws others."""
    (first, *_), (again, *_), (other, *_) = (
        draw_plans(10, 28, recipe(augmentation=MOVED, seed=seed)) for seed in (1, 1, 2)
    )
    assert first.maps is not None
    assert again.maps is not None
    assert other.maps is not None
    assert torch.equal(first.order, again.order)
    assert torch.equal(first.maps, again.maps)
    assert not torch.equal(first.order, other.order)
    assert not torch.equal(first.maps, other.maps)


def test_who_moves_nothing_draws_no_movement() -> None:
    """An augmentation of zeros has no maps, and one that moves leaves the order alone."""
    still, moved = (next(draw_plans(10, 28, recipe(augmentation=given))) for given in (Augmentation(), MOVED))
    assert still.maps is None
    assert moved.maps is not None
    assert moved.maps.shape == (10, 2, 3)
    assert torch.equal(still.order, moved.order)
