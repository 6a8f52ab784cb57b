"""What a preset can say of a network goes all the way: trained, evaluated, exported, proved."""

from pathlib import Path

import pytest
import torch

from pipeline.check import DataSummary
from pipeline.config import load_preset
from pipeline.data.dataset import Dataset
from pipeline.evaluate import evaluate
from pipeline.export import export
from pipeline.train import train
from pipeline.training.checkpoint import load_checkpoint
from pipeline.verify import LOGITS_TOLERANCE, verify

TRAINING = """
[training]
optimizer = "adamw"
schedule = "one-cycle"
learning_rate = 0.01
weight_decay = 0.05
batch_size = 64
epochs = 1
seed = 0
"""

NETWORKS = {
    "a module of another kind": 'architecture = "multilayer-perceptron"\nfeatures = [1, 32]\nsizes = [28]',
    "batch norm and largest pixels": (
        'taps = [2, 1, 1]\nfeatures = [1, 4, 8, 8]\nsizes = [28, 14, 7, 7]\nbatch_norm = true\npooling = "max"'
    ),
}


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())
def test_a_network_goes_all_the_way(
    network: str, tmp_path: Path, small_dataset: Dataset, small_summary: DataSummary, cpu: torch.device
) -> None:
    """The ONNX file answers as PyTorch does in eval mode, and what was learnt in training is what answers."""
    path, checkpoint = tmp_path / "mine.toml", tmp_path / "checkpoint.pt"
    path.write_text(f'description = "for a test"\n[network]\n{network}\nclasses = 10\n{TRAINING}')
    preset = load_preset(path)
    train(small_dataset, small_summary, preset, device=cpu, checkpoint=checkpoint, on_progress=lambda _: None)
    assert evaluate(checkpoint, small_dataset, split="validation", device=cpu).accuracy > 0.8
    assert not any(module.training for module in load_checkpoint(checkpoint, cpu).modules())
    features, known_answers = tmp_path / "features.onnx", tmp_path / "known_answers.npz"
    model = export(checkpoint, tmp_path / "model.onnx", size=28, features=features)
    verification = verify(model, checkpoint, small_dataset, known_answers=known_answers, features=features)
    assert verification.distance.logits < LOGITS_TOLERANCE
    assert features.exists() == (verification.maps_distance is not None) == ("taps" in network)
