"""Shifts, turns and scales images at random as they are trained on: another image each time, of the same digit."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.config import Augmentation


def draw_maps(count: int, size: int, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Draw for `warp` how each of `count` images of size × size pixels is moved, float (count, 2, 3) on the CPU.

    Numbers come from `generator`, a CPU's, so that they are the same on every device.
    """
    turns = _turns(count, augmentation, generator)
    shifts = _uniform((count, 2, 1), augmentation.shift_pixels, generator)
    return torch.cat([turns, shifts * 2 / size], dim=2)  # (count, 2, 3)


def warp(images: Tensor, maps: Tensor) -> Tensor:
    """Let each pixel of uint8 (batch, row, column[, channel]) show what lies where its image's map sends it.

    The maps are affine_grid's, float (batch, 2, 3): x, then y, -1 at one border of the image and 1 at the other. What
    comes in from beyond the border is 0, and pixels between pixels are interpolated and rounded.
    """
    pixels = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
    grid = functional.affine_grid(maps, list(pixels.shape), align_corners=False)
    moved = functional.grid_sample(pixels.float(), grid, align_corners=False).round().to(torch.uint8)
    return moved.squeeze(1) if images.ndim == 3 else moved.permute(0, 2, 3, 1)


def _turns(count: int, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Rotations times scales, float (count, 2, 2): where to look, so a scale of 2 halves the image."""
    angles = _uniform((count,), math.radians(augmentation.rotation_degrees), generator)
    scales = 1 + _uniform((count,), augmentation.scale, generator)
    cosines, sines = scales * angles.cos(), scales * angles.sin()
    return torch.stack([cosines, -sines, sines, cosines], dim=1).view(count, 2, 2)


def _uniform(shape: tuple[int, ...], bound: float, generator: torch.Generator) -> Tensor:
    return (2 * torch.rand(shape, generator=generator) - 1) * bound
