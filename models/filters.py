"""Spatial convolution, as the lab's sum of shifted images and as torch's own; the three filters of Task 2."""

import math
from collections.abc import Mapping
from itertools import product
from types import MappingProxyType
from typing import Literal, final, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.checks import check_choice, check_integer, check_shape

SecondFilter = Literal["text", "code"]

FIXED_FILTERS: Mapping[str, tuple[tuple[int, int, int], ...]] = MappingProxyType(
    {
        "box": ((1, 1, 1), (1, 1, 1), (1, 1, 1)),
        "horizontal_gradient": ((-1, 0, 1), (-1, 0, 1), (-1, 0, 1)),
        "vertical_gradient": ((-1, -1, -1), (0, 0, 0), (1, 1, 1)),
    },
)
"""The filters H^{f1}, H^{f2}, H^{f3} of equation (6), as the text prints them, in its order."""


@final
class ShiftConvolution(nn.Module):
    """Spatial convolution as a sum of shifted images: equations (1) and (3), over features as in (5), without σ.

    z^g = Σ_f Σ_u Σ_v h^{fg}_{uv} S_V^u S_H^v x^f with u, v in [-K, K], and zero beyond the border. The shift goes
    as in the lab's code and in nn.Conv2d: z(m, n) reads x(m + u, n + v), which other books call cross-correlation.

    The lab keeps its taps in a plain tensor and takes one feature; here they are a Parameter, so that they learn and
    move with `.to(device)`, and map F features to G, so that layers can follow one another (the lab's fail for L > 1).

    Attributes:
        weight: floating Parameter (G, F, 2K+1, 2K+1), initialised as nn.Conv2d is (Kaiming-uniform).

    Raises:
        ValueError: in_features (F) or out_features (G) is no integer >= 1, or taps (K) no integer >= 0.
    """

    def __init__(self, in_features: int, out_features: int, taps: int) -> None:
        super().__init__()
        _check_filter(in_features, out_features, taps)
        self.taps = taps
        self.weight = nn.Parameter(torch.empty(out_features, in_features, 2 * taps + 1, 2 * taps + 1))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, images: Tensor) -> Tensor:
        """Map (batch, F, row, column) to (batch, G, row, column); any range, the dtype of `weight`.

        Raises:
            ValueError: images has another rank or another number of features.
        """
        check_shape(images, "batch", self.weight.shape[1], "row", "column")
        rows, columns = images.shape[2:]
        padded = functional.pad(images, [self.taps] * 4)  # (batch, F, row + 2K, column + 2K)
        terms = (
            torch.einsum("gf,bfmn->bgmn", self.weight[:, :, u, v], padded[:, :, u : u + rows, v : v + columns])
            for u, v in product(range(2 * self.taps + 1), repeat=2)
        )
        return sum(terms, start=images.new_zeros(()))  # (batch, G, row, column)


def torch_convolution(in_features: int, out_features: int, taps: int) -> nn.Conv2d:
    """Build the fast twin of ShiftConvolution: (batch, F, row, column) to (batch, G, row, column), no bias.

    Raises:
        ValueError: in_features (F) or out_features (G) is no integer >= 1, or taps (K) no integer >= 0.
    """
    _check_filter(in_features, out_features, taps)
    return nn.Conv2d(in_features, out_features, kernel_size=2 * taps + 1, padding=taps, bias=False)


def load_weights(convolution: nn.Module, weights: Tensor) -> None:
    """Copy weights (G, F, 2K+1, 2K+1) into a convolution of either kind; dtype and device stay the convolution's.

    Raises:
        ValueError: convolution has parameters other than `weight`, or one of another shape.
    """
    target = _weight(convolution)
    if target.shape != weights.shape:
        raise ValueError(f"expected weights of shape {tuple(target.shape)}, got {tuple(weights.shape)}")
    with torch.no_grad():
        target.copy_(weights)


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Give `target` the values of `source`, each a ShiftConvolution or a torch_convolution; they share no memory.

    Raises:
        ValueError: either has parameters other than `weight`, or the shapes differ.
    """
    load_weights(target, _weight(source))


def fixed_filters(second: SecondFilter = "text") -> Tensor:
    """Return the filters of equation (6), Task 2: float32 (3, 1, 3, 3), {-1, 0, 1}, in the order of FIXED_FILTERS.

    The text's H^{f2} has rows [-1 0 1]; the notebook's code loads its negative, [1 0 -1]: `second` picks one.
    The text says F_0 = 3 and the code uses F_0 = 1, as here, so that each image is seen alone; `.expand(3, 3, 3, 3)`
    gives the text's. Load them with `load_weights(cnn.convolutions[0], fixed_filters())`.

    Raises:
        ValueError: second is neither "text" nor "code".
    """
    check_choice("second", second, get_args(SecondFilter))
    bank = torch.tensor(list(FIXED_FILTERS.values()), dtype=torch.float32)  # (filter, row, column), {-1, 0, 1}
    if second == "code":
        bank[1] = bank[1].flip(-1)
    return bank.unsqueeze(1)  # (filter, 1, row, column)


def _check_filter(in_features: int, out_features: int, taps: int) -> None:
    check_integer("in_features", in_features, minimum=1)
    check_integer("out_features", out_features, minimum=1)
    check_integer("taps", taps, minimum=0)


def _weight(convolution: nn.Module) -> nn.Parameter:
    parameters = dict(convolution.named_parameters())
    if set(parameters) != {"weight"}:
        raise ValueError(f"expected a convolution with weight as its only parameter, got {sorted(parameters)}")
    return parameters["weight"]
