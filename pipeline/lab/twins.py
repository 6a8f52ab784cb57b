"""The lab's way and torch's, side by side: that both compute the same, and how long each takes."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.cnn import CNN, PooledCNN
from models.filters import ShiftConvolution
from models.pooling import average_pool, lab_average_pool
from pipeline.config import Network

ROUNDS = 21
WARM_UP_ROUNDS = 3
TOLERANCE = 1e-10
"""Of the largest number, in float64, whose rounding is 1e-16: a gradient sums 100,000 terms, in another order."""

Compute = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Times:
    """Medians over the rounds, in ms a batch."""

    lab_ms: float
    torch_ms: float

    @property
    def ratio(self) -> float:
        """How many times the lab's way takes what torch's takes."""
        return self.lab_ms / self.torch_ms


@dataclass(frozen=True)
class Twins:
    """Two computations of the same thing, with the same weights on the same images."""

    what: str
    lab: str
    torch: str
    difference: float
    """In float64: the largest in the outputs and in the gradients, each over the largest number there."""
    difference_float32: float
    """The same in float32, in which they are timed and trained."""
    forward: Times
    both: Times
    """Forward and backward."""

    @property
    def are_equal(self) -> bool:
        """Whether they differ by rounding alone."""
        return self.difference <= TOLERANCE


def compare(network: Network, images: Tensor, *, rounds: int = ROUNDS) -> tuple[Twins, ...]:
    """Compare convolution, pooling and the CNN of both on normalised images (batch, 1, row, column)."""
    taps, features, sizes = network.taps, network.features, network.sizes
    shifts, convolution = _same_weights(CNN(taps, features, ShiftConvolution), CNN(taps, features), images)
    lab, shipped = _same_weights(
        PooledCNN(taps, features, sizes, pool=lab_average_pool, convolution=ShiftConvolution),
        PooledCNN(taps, features, sizes),
        images,
    )
    with torch.no_grad():
        maps = functional.relu(shipped.get_submodule("convolutions.0")(images))  # (batch, F_1, row, column)
    window = sizes[0] // sizes[1]
    return (
        _compare(("convolution", "sum of shifts", "nn.Conv2d"), shifts, convolution, images, rounds),
        _compare(
            ("pooling", "roll and index", "avg_pool2d"),
            lambda batch: lab_average_pool(batch, window),
            lambda batch: average_pool(batch, window),
            maps,
            rounds,
        ),
        _compare(("pooled CNN", "both", "both"), lab, shipped, images, rounds),
    )


def _same_weights(first: nn.Module, second: nn.Module, images: Tensor) -> tuple[nn.Module, nn.Module]:
    first.load_state_dict(second.state_dict())
    return first.to(images.device), second.to(images.device)


def _compare(names: tuple[str, str, str], lab: Compute, twin: Compute, images: Tensor, rounds: int) -> Twins:
    with torch.no_grad():
        forward = _time(lambda: lab(images), lambda: twin(images), images.device, rounds)
    both = _time(lambda: _results(lab, images), lambda: _results(twin, images), images.device, rounds)
    rounded = _difference(lab, twin, images)
    for module in (lab, twin):
        if isinstance(module, nn.Module):
            module.double()
    return Twins(*names, _difference(lab, twin, images.double()), rounded, forward, both)


def _difference(lab: Compute, twin: Compute, images: Tensor) -> float:
    return max(
        ((mine - theirs).abs().max() / theirs.abs().max()).item()
        for mine, theirs in zip(_results(lab, images), _results(twin, images), strict=True)
    )


def _results(compute: Compute, images: Tensor) -> list[Tensor]:
    """The output, and the gradients of half its squared sum: in the weights, or in the images where there are none."""
    images = images.detach().clone()
    weights = list(compute.parameters()) if isinstance(compute, nn.Module) else [images.requires_grad_()]
    output = compute(images)
    return [output.detach(), *torch.autograd.grad(output.square().sum() / 2, weights)]


def _time(lab: Callable[[], object], twin: Callable[[], object], device: torch.device, rounds: int) -> Times:
    """Let both take turns, so that a busy machine slows both."""
    times_ms: tuple[list[float], list[float]] = ([], [])
    for index in range(WARM_UP_ROUNDS + rounds):
        for run, taken_ms in zip((lab, twin), times_ms, strict=True):
            start = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if index >= WARM_UP_ROUNDS:
                taken_ms.append(1000 * (time.perf_counter() - start))
    return Times(*map(statistics.median, times_ms))
