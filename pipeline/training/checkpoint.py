"""A trained classifier on disk, with all that is needed to build it again."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from models.architectures import ARCHITECTURES
from models.classifier import ImageClassifier
from pipeline.config import Network
from pipeline.errors import CheckpointError


def build_classifier(
    network: Network, *, mean: float | Sequence[float], std: float | Sequence[float]
) -> ImageClassifier:
    """Build an untrained classifier, of grey images or, with three means and stds, of colour images.

    Its first weights come from torch's global generator.
    """
    return ImageClassifier(ARCHITECTURES[network.architecture](network.spec), mean, std)


def save_checkpoint(path: Path, classifier: ImageClassifier, network: Network) -> None:
    """Write a checkpoint whole or not at all."""
    content = {
        "network": network.model_dump(),
        "mean": classifier.mean.flatten().tolist(),
        "std": classifier.std.flatten().tolist(),
        "state": {name: tensor.cpu() for name, tensor in classifier.state_dict().items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, content)


def save_temperature(path: Path, temperature: float) -> None:
    """Give the classifier of a checkpoint another temperature, (0, ∞)."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    content["state"]["temperature"] = torch.tensor(temperature, dtype=torch.float32)
    _write(path, content)


def load_checkpoint(path: Path, device: torch.device) -> ImageClassifier:
    """Rebuild the classifier in eval mode on the device; CheckpointError if the file is not a checkpoint of ours."""
    try:
        content = torch.load(path, map_location=device, weights_only=True)
        classifier = build_classifier(Network(**content["network"]), mean=content["mean"], std=content["std"])
        classifier.load_state_dict(content["state"])
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, TypeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: is no checkpoint: {reason}; train again") from error
    return classifier.to(device).eval()


def _write(path: Path, content: dict[str, Any]) -> None:
    unfinished = path.with_name(f"{path.name}.part")
    torch.save(content, unfinished)
    unfinished.replace(path)
