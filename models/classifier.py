"""The classifier that is trained and served alike: pixels in, logits and probabilities out."""

from collections.abc import Iterator, Sequence
from typing import final

import torch
from torch import Tensor, nn

from models.checks import check_shape
from models.feature_maps import NamedMaps, ShowsFeatureMaps

CHANNELS = (1, 3)
"""The bytes that a pixel may have: grey; red, green, blue."""


@final
class ImageClassifier(nn.Module):
    """Task 5's classifier, with the notebook's normalisation and the softmax inside, so that nobody repeats them.

    It computes in the dtype of its buffers: float32 unless moved with `.to(dtype)`. One mean and std make a classifier
    of grey images, (batch, row, column); three of each make one of colour images, (batch, row, column, 3).

    Attributes:
        network: maps floating (batch, channels, row, column) to logits (batch, classes).
        mean: buffer, [0, 1]: the mean pixel after the division by 255 (0.1307 for MNIST); 0-d, or (3, 1, 1) for colour.
        std: buffer, (0, 1]: the standard deviation after the division by 255 (0.3081 for MNIST); shaped as mean.
        temperature: buffer, (0, ∞), 0-d: what the network's logits are divided by; 1 until somebody has fitted another.

    Raises:
        ValueError: mean or std lies outside its range, or they are neither 1 nor 3 numbers each.
    """

    mean: Tensor
    std: Tensor
    temperature: Tensor

    def __init__(self, network: nn.Module, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        super().__init__()
        means, stds = _numbers(mean), _numbers(std)
        if len(means) != len(stds) or len(means) not in CHANNELS:
            raise ValueError(f"mean and std must be 1 number each (grey) or 3 (colour), got {mean} and {std}")
        for value in means:
            if not 0 <= value <= 1:
                raise ValueError(f"mean must lie in [0, 1], in units of pixels divided by 255, got {value}")
        for value in stds:
            if not 0 < value <= 1:
                raise ValueError(f"std must lie in (0, 1], in units of pixels divided by 255, got {value}")
        self.network = network
        self.register_buffer("mean", _constant(means))
        self.register_buffer("std", _constant(stds))
        self.register_buffer("temperature", torch.tensor(1.0))

    @property
    def channels_last(self) -> bool:
        """Whether the network asks to be trained in the memory format torch.channels_last."""
        return getattr(self.network, "channels_last", False)

    @property
    def channels(self) -> int:
        """The bytes of a pixel: 1 for grey, 3 for red, green, blue."""
        return self.mean.numel()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map uint8 (batch, row, column[, 3]) to float32 logits and probabilities, both (batch, classes).

        Logits have any range; probabilities lie in [0, 1], and each row of them adds up to 1.

        Raises:
            ValueError: images is not uint8, or has another rank or size than the network takes.
        """
        logits = self.logits(images)
        return logits, logits.softmax(dim=-1)  # (batch, classes), [0, 1]

    def logits(self, images: Tensor) -> Tensor:
        """Map uint8 (batch, row, column[, 3]) to float32 logits (batch, classes), what Task 5's cross entropy takes.

        Raises:
            ValueError: images is not uint8, or has another rank or size than the network takes.
        """
        _check_pixels(images, self.channels)
        logits: Tensor = self.network(self.normalise(images)) / self.temperature  # (batch, classes), (-∞, ∞)
        return logits

    def feature_maps(self, images: Tensor) -> Iterator[NamedMaps]:
        """Yield the float32 maps (batch, feature, row, column) behind each layer, for images as in `forward`.

        Nothing where the network shows none.

        Raises:
            ValueError: images is not uint8, or has another rank or size than the network takes.
        """
        _check_pixels(images, self.channels)
        if isinstance(self.network, ShowsFeatureMaps):
            yield from self.network.feature_maps(self.normalise(images))

    def normalise(self, images: Tensor) -> Tensor:
        """Map uint8 (batch, row, column[, 3]) to float32 (batch, channel, row, column): (pixel/255 - mean) / std."""
        # Turned while a number is a byte: four times less to move. Grey is left as it lies until the end.
        planes = images if self.channels == 1 else images.permute(0, 3, 1, 2)  # (batch, [3,] row, column)
        if not self.channels_last:
            planes = planes.contiguous()  # colours lie last in a pixel, and `view` needs them first
        scaled = planes.to(self.mean.dtype) / 255  # (batch, [3,] row, column), [0, 1]
        normalised = (scaled - self.mean) / self.std  # (batch, [3,] row, column), [-mean/std, (1 - mean)/std]
        return normalised.unsqueeze(1) if self.channels == 1 else normalised


def _numbers(value: float | Sequence[float]) -> tuple[float, ...]:
    return tuple(value) if isinstance(value, Sequence) else (value,)


def _constant(values: tuple[float, ...]) -> Tensor:
    """One number as a scalar, which makes the fastest graph; three of them as (3, 1, 1), over rows and columns."""
    tensor = torch.tensor(values, dtype=torch.float32)
    return tensor.view(()) if len(values) == 1 else tensor.view(-1, 1, 1)


def _check_pixels(images: Tensor, channels: int) -> None:
    colours = (channels,) if channels > 1 else ()
    check_shape(images, "batch", "row", "column", *colours)
    if images.dtype != torch.uint8:
        raise ValueError(f"expected images of dtype torch.uint8, got {images.dtype}")
