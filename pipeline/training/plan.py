"""What an epoch is made of, drawn before it begins: in which order the images come, and how each is moved."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.config import Training
from pipeline.training.augment import draw_maps

MOVE_SEED_OFFSET = 2**31  # beyond every seed of a preset, so that no two generators ever start alike


@dataclass(frozen=True)
class Plan:
    """One epoch's, on the CPU. Batch after batch takes its images from the front."""

    order: Tensor
    """int64 (image,): every image once."""
    maps: Tensor | None
    """float32 (image, 2, 3): how the image at that place of the order is moved (`augment.warp`); None leaves all."""


def draw_plans(count: int, size: int, training: Training) -> Iterator[Plan]:
    """Yield the plan of each epoch for `count` images of size × size pixels.

    The order and the movement are the same on every device, and independent of each other.
    """
    order_generator = torch.Generator().manual_seed(training.seed)
    move_generator = torch.Generator().manual_seed(training.seed + MOVE_SEED_OFFSET)
    augmentation = training.augmentation
    for _ in range(training.epochs):
        order = torch.randperm(count, generator=order_generator)
        if augmentation.is_none:
            yield Plan(order, None)
            continue
        sizes = batch_sizes(count, training.batch_size)
        yield Plan(order, torch.cat([draw_maps(batch, size, augmentation, move_generator) for batch in sizes]))


def batch_sizes(count: int, batch_size: int) -> list[int]:
    """How many images each batch of an epoch has; the last takes what is left."""
    full, rest = divmod(count, batch_size)
    return [batch_size] * full + [rest] * bool(rest)
