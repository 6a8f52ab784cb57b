"""Tries the network of a preset before it is trained: what cannot be trained or exported costs no training."""

import torch

from models.trial import try_network
from pipeline.check import DataSummary
from pipeline.config import Preset
from pipeline.errors import ArchitectureError
from pipeline.training.checkpoint import build_classifier
from pipeline.training.device import seeded
from pipeline.training.plan import batch_sizes


def check_network(preset: Preset, summary: DataSummary, *, device: torch.device) -> None:
    """Build the network and try it on random images.

    It is tried on the training's device and in the training's batch sizes, and torch.export traces it on the CPU.
    Raises ArchitectureError, which names the architecture, the fault and the remedy.
    """
    network, sizes = preset.network, set(batch_sizes(summary.train_count, preset.training.batch_size))
    shape = (summary.channels, summary.height, summary.width)
    with seeded(preset.training.seed, device):
        try:
            built = build_classifier(network, mean=summary.means, std=summary.stds).network
            try_network(built, shape, network.classes, batch_sizes=sizes, device=device)
        except Exception as error:  # whatever the constructor of a network raises
            raise ArchitectureError(f"architecture {network.architecture!r}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """A ValueError is a sentence already, of ours or of the network."""
    return str(error) if isinstance(error, ValueError) else f"cannot be built: {type(error).__name__}: {error}"
