"""The convolutional networks of the lab: plain (Task 1), pooled (Task 3), pooled with a readout (Task 4)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Literal, final, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.checks import check_choice, check_integer, check_layers, check_shape, check_sizes, check_tuple
from models.feature_maps import NamedMaps
from models.filters import torch_convolution
from models.pooling import average_pool, max_pool

Convolution = Callable[[int, int, int], nn.Module]
"""Builds a layer from (in_features, out_features, taps): ShiftConvolution or torch_convolution."""

Pool = Callable[[Tensor, int], Tensor]
"""Maps (batch, feature, row, column) and a window Δ to (batch, feature, row/Δ, column/Δ)."""

Pooling = Literal["average", "max"]
Initialisation = Literal["scaled", "randn"]

POOLS: Mapping[Pooling, Pool] = MappingProxyType({"average": average_pool, "max": max_pool})


@final
@dataclass(frozen=True)
class CNNSpec:
    """What a pooled CNN with a readout is made of; the defaults are the lab's Task 5, 4,244 parameters.

    Attributes:
        taps: K_1 … K_L, each >= 0; layer l has filters of 2K_l + 1 by 2K_l + 1.
        features: F_0 … F_L, each >= 1.
        sizes: N_0 … N_L in pixels, each >= 1, each dividing the one before it.
        classes: columns of the readout, >= 1.

    Raises:
        ValueError: a value is out of its range, lengths do not fit one another, sizes do not divide, or a list came
            where a tuple must stand (a spec is compared and hashed).
    """

    taps: tuple[int, ...] = (1, 1)
    features: tuple[int, ...] = (1, 4, 8)
    sizes: tuple[int, ...] = (28, 14, 7)
    classes: int = 10

    def __post_init__(self) -> None:
        for name in ("taps", "features", "sizes"):
            check_tuple(name, getattr(self, name))
        check_layers(self.taps, self.features)
        check_sizes(self.taps, self.sizes)
        check_integer("classes", self.classes, minimum=1)

    @property
    def readout_inputs(self) -> int:
        """F_L · N_L²: the numbers per image that reach the readout."""
        return self.features[-1] * self.sizes[-1] ** 2


@final
class CNN(nn.Module):
    """Task 1, equations (2), (4), (5): L layers, each a convolution and a ReLU.

    The lab's own convolution fails here for L > 1; either `convolution` works, and their state dicts are the same.

    Attributes:
        convolutions: the L layers' filters, (F_l, F_{l-1}, 2K_l + 1, 2K_l + 1).

    Raises:
        ValueError: taps [K_1 … K_L] is empty or holds no integers >= 0, or features [F_0 … F_L] no integers >= 1 or
            not one entry more than taps.
    """

    def __init__(
        self, taps: Sequence[int], features: Sequence[int], convolution: Convolution = torch_convolution
    ) -> None:
        super().__init__()
        check_layers(taps, features)
        self.in_features = features[0]
        self.convolutions = _convolutions(taps, features, convolution)

    def forward(self, images: Tensor) -> Tensor:
        """Map floating (batch, F_0, row, column), any range, to (batch, F_L, row, column), [0, ∞).

        Raises:
            ValueError: images has another rank or another number of features.
        """
        check_shape(images, "batch", self.in_features, "row", "column")
        for convolution in self.convolutions:
            images = functional.relu(convolution(images))  # (batch, F_l, row, column), [0, ∞)
        return images


@final
class PooledCNN(nn.Module):
    """Task 3, equations (5), (7), (8): L layers, each a convolution, a ReLU and a pooling from N_{l-1} to N_l pixels.

    With `batch_norm`, which the lab does not know, each convolution's features are normalised before the ReLU.

    Attributes:
        convolutions: the L layers' filters, (F_l, F_{l-1}, 2K_l + 1, 2K_l + 1).
        normalisations: what follows each convolution: batch norm over F_l features, or nothing.
        windows: Δ_l = N_{l-1} / N_l, exact where the lab takes the floor.

    Raises:
        ValueError: taps and features as in CNN; sizes [N_0 … N_L] are no integers >= 1, not one entry more than taps,
            or do not divide one another.
    """

    def __init__(
        self,
        taps: Sequence[int],
        features: Sequence[int],
        sizes: Sequence[int],
        *,
        pool: Pool = average_pool,
        convolution: Convolution = torch_convolution,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        check_layers(taps, features)
        check_sizes(taps, sizes)
        self.in_features, self.in_size = features[0], sizes[0]
        self.windows = tuple(before // after for before, after in pairwise(sizes))
        self.pool = pool
        self.convolutions = _convolutions(taps, features, convolution)
        self.normalisations = nn.ModuleList(
            nn.BatchNorm2d(count) if batch_norm else nn.Identity() for count in features[1:]
        )

    def forward(self, images: Tensor) -> Tensor:
        """Map floating (batch, F_0, N_0, N_0), any range, to (batch, F_L, N_L, N_L), [0, ∞).

        Raises:
            ValueError: images has another rank, number of features or size.
        """
        maps = images
        for _, maps in self.feature_maps(images):  # noqa: B007 - the last of them is the answer
            pass
        return maps  # (batch, F_L, N_L, N_L), [0, ∞)

    def feature_maps(self, images: Tensor) -> Iterator[NamedMaps]:
        """Yield "convolution l", behind the ReLU, (batch, F_l, N_{l-1}, N_{l-1}), and "pooling l", both [0, ∞).

        A layer that keeps its size has no pooling. Takes what `forward` takes, and raises what it raises.
        """
        check_shape(images, "batch", self.in_features, self.in_size, self.in_size)
        layers = zip(self.convolutions, self.normalisations, self.windows, strict=True)
        for number, (convolution, normalisation, window) in enumerate(layers, start=1):
            images = functional.relu(normalisation(convolution(images)))  # (batch, F_l, N_{l-1}, N_{l-1}), [0, ∞)
            yield f"convolution {number}", images
            if window > 1:  # else each pixel is a window of its own, and would cost a pass over all of them
                images = self.pool(images, window)  # (batch, F_l, N_l, N_l), [0, ∞)
                yield f"pooling {number}", images


@final
class PooledReadoutCNN(nn.Module):
    """Task 4: a pooled CNN, flattened, times a matrix without bias.

    The lab draws the readout from N(0, 1): "randn"; the first loss that it prints is 8.8, where a guess costs ln 10.
    Ours, "scaled", divides by √(F_L N_L²), so that logits start as large as the features that they weigh.

    Attributes:
        layers: the PooledCNN.
        readout: floating Parameter (F_L · N_L², classes).
        channels_last: True: an epoch on a CPU is a quarter shorter (1.64 s to 1.23 s: n = 7, torch 2.14.1, two Xeon
            cores).

    Raises:
        ValueError: pooling or initialisation is not one of its names.
    """

    channels_last = True

    def __init__(
        self,
        spec: CNNSpec,
        *,
        pooling: Pooling = "average",
        initialisation: Initialisation = "scaled",
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        check_choice("pooling", pooling, get_args(Pooling))
        check_choice("initialisation", initialisation, get_args(Initialisation))
        self.layers = PooledCNN(spec.taps, spec.features, spec.sizes, pool=POOLS[pooling], batch_norm=batch_norm)
        scale = 1.0 if initialisation == "randn" else spec.readout_inputs**-0.5
        self.readout = nn.Parameter(scale * torch.randn(spec.readout_inputs, spec.classes))

    def forward(self, images: Tensor) -> Tensor:
        """Map floating (batch, F_0, N_0, N_0), any range, to logits (batch, classes), any range.

        Raises:
            ValueError: images has another rank, number of features or size.
        """
        features: Tensor = self.layers(images)  # (batch, F_L, N_L, N_L), [0, ∞)
        return features.flatten(start_dim=1) @ self.readout  # (batch, classes), (-∞, ∞)

    def feature_maps(self, images: Tensor) -> Iterator[NamedMaps]:
        """Yield what PooledCNN.feature_maps yields: all that the readout is made of, and what came before it."""
        return self.layers.feature_maps(images)


def _convolutions(taps: Sequence[int], features: Sequence[int], convolution: Convolution) -> nn.ModuleList:
    layers = zip(pairwise(features), taps, strict=True)
    return nn.ModuleList(convolution(before, after, layer_taps) for (before, after), layer_taps in layers)
