"""The networks that a preset can name. One of your own: a module, a function that builds it, a line in the mapping.

The module maps floating (batch, F_0, N_0, N_0), normalised, to logits (batch, classes). Training, evaluation, export
and the proof need nothing more of it. One with a method `feature_maps` can be looked into (models/feature_maps.py); one
whose attribute `channels_last` is True is trained in that memory format, where `x.view(-1, n)` fails.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn

from models.checks import check_integer, check_integers, check_logits, check_shape
from models.cnn import CNNSpec, Initialisation, PooledReadoutCNN, Pooling
from models.feature_maps import check_feature_maps


@final
@dataclass(frozen=True)
class NetworkSpec:
    """What a preset says of a network; an architecture takes what it needs and refuses what makes no sense to it.

    Attributes:
        features: F_0, the features of an image (1 for grey), and those of each layer.
        sizes: N_0, the rows and columns of an image in pixels, and those behind each layer.
        classes: how many logits.
        taps: K_1 … K_L of the convolutions.
    """

    features: tuple[int, ...]
    sizes: tuple[int, ...]
    classes: int
    taps: tuple[int, ...] = ()
    pooling: Pooling = "average"
    initialisation: Initialisation = "scaled"
    batch_norm: bool = False


Builder = Callable[[NetworkSpec], nn.Module]
"""Builds a network with its first weights from torch's global generator; ValueError if the spec does not fit."""


@final
class MultilayerPerceptron(nn.Module):
    """Fully connected layers with ReLUs between: what a network knows that is not told that pixels have neighbours.

    Attributes:
        layers: one nn.Linear for each hidden layer, and one to the logits.

    Raises:
        ValueError: hidden is empty, or a number is no integer >= 1.
    """

    def __init__(self, features: int, size: int, hidden: tuple[int, ...], classes: int) -> None:
        super().__init__()
        check_integers("features of the hidden layers", hidden, minimum=1)
        for name, value in (("features[0]", features), ("sizes[0]", size), ("classes", classes)):
            check_integer(name, value, minimum=1)
        if not hidden:
            raise ValueError("features must have one entry more for each hidden layer, at least one: got none")
        self.shape = (features, size, size)
        widths = (features * size**2, *hidden, classes)
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))

    def forward(self, images: Tensor) -> Tensor:
        """Map floating (batch, F_0, N_0, N_0), any range, to logits (batch, classes), any range.

        Raises:
            ValueError: images has another rank, number of features or size.
        """
        check_shape(images, "batch", *self.shape)
        *hidden, last = self.layers
        numbers = images.flatten(start_dim=1)  # (batch, F_0 · N_0²)
        for layer in hidden:
            numbers = layer(numbers).relu()  # (batch, F_l), [0, ∞)
        logits: Tensor = last(numbers)  # (batch, classes), (-∞, ∞)
        return logits


def _pooled_readout(spec: NetworkSpec) -> nn.Module:
    return PooledReadoutCNN(
        CNNSpec(spec.taps, spec.features, spec.sizes, spec.classes),
        pooling=spec.pooling,
        initialisation=spec.initialisation,
        batch_norm=spec.batch_norm,
    )


def _multilayer_perceptron(spec: NetworkSpec) -> nn.Module:
    if spec.taps or len(spec.sizes) != 1 or spec.batch_norm:
        raise ValueError(
            "a multilayer perceptron takes the size of the images alone (sizes = [28]), no taps and no batch norm: "
            f"got sizes {spec.sizes}, taps {spec.taps}, batch_norm {spec.batch_norm}"
        )
    in_features, *hidden = spec.features
    return MultilayerPerceptron(in_features, spec.sizes[0], tuple(hidden), spec.classes)


ARCHITECTURES: dict[str, Builder] = {
    "pooled-readout": _pooled_readout,
    "multilayer-perceptron": _multilayer_perceptron,
}
"""What `architecture` in a preset's [network] means."""


def check_spec(build: Builder, spec: NetworkSpec) -> None:
    """Raise ValueError unless `build` makes of the spec a network of the right shape; computes nothing.

    On torch's meta device a module has shapes and no numbers: a mistake shows before a second is spent on training.
    What torch cannot do there is left to `try_network`.
    """
    if not spec.features or not spec.sizes:
        raise ValueError("features and sizes must each have one entry at least: those of an image")
    try:
        with torch.device("meta"):
            network = build(spec).eval()
            images = torch.empty(2, spec.features[0], spec.sizes[0], spec.sizes[0])
        logits = network(images)
    except ValueError:
        raise
    except Exception:  # such as a value that is asked for: torch's errors share no base class
        return
    check_logits(logits, 2, spec.classes)
    check_feature_maps(network, images)
