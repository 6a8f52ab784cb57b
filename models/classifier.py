"""The classifier that is trained and served alike: pixels in, logits and probabilities out."""

from typing import final

import torch
from torch import Tensor, nn

from models.checks import check_shape


@final
class ImageClassifier(nn.Module):
    """Task 5's classifier, with the notebook's normalisation and the softmax inside, so that nobody repeats them.

    It computes in the dtype of its buffers: float32 unless moved with `.to(dtype)`.

    Attributes:
        network: maps floating (batch, 1, row, column) to logits (batch, classes).
        mean: 0-d buffer, [0, 1]: the mean pixel after the division by 255 (0.1307 for MNIST).
        std: 0-d buffer, (0, 1]: the standard deviation after the division by 255 (0.3081 for MNIST).

    Raises:
        ValueError: mean or std lies outside its range.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: float, std: float) -> None:
        super().__init__()
        if not 0 <= mean <= 1:
            raise ValueError(f"mean must lie in [0, 1], in units of pixels divided by 255, got {mean}")
        if not 0 < std <= 1:
            raise ValueError(f"std must lie in (0, 1], in units of pixels divided by 255, got {std}")
        self.network = network
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map uint8 (batch, row, column) to float32 logits and probabilities, both (batch, classes).

        Logits have any range; probabilities lie in [0, 1], and each row of them adds up to 1.

        Raises:
            ValueError: images is not uint8, or has another rank or size than the network takes.
        """
        logits = self.logits(images)
        return logits, logits.softmax(dim=-1)  # (batch, classes), [0, 1]

    def logits(self, images: Tensor) -> Tensor:
        """Map uint8 (batch, row, column) to float32 logits (batch, classes), what the cross entropy of Task 5 takes.

        Raises:
            ValueError: images is not uint8, or has another rank or size than the network takes.
        """
        _check_pixels(images)
        normalised = self.normalise(images).unsqueeze(1)  # (batch, 1, row, column)
        logits: Tensor = self.network(normalised)  # (batch, classes), (-∞, ∞)
        return logits

    def normalise(self, images: Tensor) -> Tensor:
        """Map uint8 (batch, row, column) to float32 of the same shape: (pixel/255 - mean) / std."""
        scaled = images.to(self.mean.dtype) / 255  # (batch, row, column), [0, 1]
        return (scaled - self.mean) / self.std  # (batch, row, column), [-mean/std, (1 - mean)/std]


def _check_pixels(images: Tensor) -> None:
    check_shape(images, "batch", "row", "column")
    if images.dtype != torch.uint8:
        raise ValueError(f"expected images of dtype torch.uint8, got {images.dtype}")
