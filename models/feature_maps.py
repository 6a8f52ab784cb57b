"""What a network shows of itself: the feature maps behind each of its layers."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from torch import Tensor

NamedMaps = tuple[str, Tensor]
"""The name of a layer, such as "pooling 1", and the maps behind it, (batch, feature, row, column)."""


@runtime_checkable
class ShowsFeatureMaps(Protocol):
    """A network that can be looked into; one that has no such method simply shows nothing."""

    def feature_maps(self, images: Tensor, /) -> Iterator[NamedMaps]:
        """Yield what follows each layer, from the image to the readout; each name once.

        Takes what `forward` takes: floating (batch, F_0, N_0, N_0). Maps have any size, and may differ in it.
        """


def check_feature_maps(network: object, images: Tensor) -> None:
    """Raise ValueError unless what `network` shows of `images`, if anything, is maps, each under a name of its own."""
    if not isinstance(network, ShowsFeatureMaps):
        return
    seen: set[str] = set()
    for name, maps in network.feature_maps(images):
        if name in seen or not name:
            raise ValueError(f"feature maps must each have a name of their own, got {name!r} after {sorted(seen)}")
        if maps.dim() != 4 or len(maps) != len(images):
            raise ValueError(
                f"feature maps {name!r} must have shape ({len(images)}, feature, row, column), got {tuple(maps.shape)}"
            )
        seen.add(name)
