"""Networks of one's own: what torch.export accepts goes all the way, and what cannot is rejected before training."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.architectures import ARCHITECTURES
from models.trial import try_network
from pipeline.check import DataSummary
from pipeline.check_network import check_network
from pipeline.config import Preset, load_preset
from pipeline.data.dataset import Dataset
from pipeline.errors import ArchitectureError, ConfigError
from pipeline.evaluate import evaluate
from pipeline.export import export
from pipeline.train import train
from pipeline.verify import LOGITS_TOLERANCE, verify
from tests.pipeline.networks import FAULTY, PUBLIC
from tests.pipeline.presets import with_training

Build = Callable[[], nn.Module]
Preset_of = Callable[[Build], Preset]

PRESET = """
description = "for a test"
[network]
architecture = "mine"
features = [1]
sizes = [28]
classes = 10
[training]
optimizer = "adamw"
schedule = "one-cycle"
learning_rate = 0.003
weight_decay = 0.05
batch_size = 64
epochs = 1
seed = 0
"""


@pytest.fixture
def preset_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Preset_of:
    """A function that adds a network to the architectures, as a clone does, and loads a preset that names it."""

    def preset_of(build: Build) -> Preset:
        monkeypatch.setitem(ARCHITECTURES, "mine", lambda _: build())
        path = tmp_path / "mine.toml"
        path.write_text(PRESET)
        return load_preset(path)

    return preset_of


@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning", "ignore:_check_is_size:FutureWarning")  # GRU
@pytest.mark.parametrize("build", PUBLIC.values(), ids=PUBLIC.keys())
def test_a_public_network_goes_all_the_way(
    build: Build,
    preset_of: Preset_of,
    tmp_path: Path,
    small_dataset: Dataset,
    small_summary: DataSummary,
    cpu: torch.device,
) -> None:
    """It passes the check, learns in an epoch, and its ONNX file agrees with PyTorch."""
    preset, checkpoint = preset_of(build), tmp_path / "checkpoint.pt"
    check_network(preset, small_summary, device=cpu)
    train(small_dataset, small_summary, preset, device=cpu, checkpoint=checkpoint, on_progress=lambda _: None)
    assert evaluate(checkpoint, small_dataset, split="validation", device=cpu).accuracy > 0.2
    model = export(checkpoint, tmp_path / "model.onnx", size=28)
    verification = verify(model, checkpoint, small_dataset, known_answers=tmp_path / "known_answers.npz")
    assert verification.distance.logits < LOGITS_TOLERANCE


@pytest.mark.parametrize(("build", "fault", "remedy"), FAULTY.values(), ids=FAULTY.keys())
def test_a_network_that_cannot_work_is_rejected_before_training(
    build: Build, fault: str, remedy: str, preset_of: Preset_of, small_summary: DataSummary, cpu: torch.device
) -> None:
    """One sentence names the architecture or its key, the fault, and what to do."""
    with pytest.raises((ArchitectureError, ConfigError)) as raised:
        check_network(preset_of(build), small_summary, device=cpu)
    message = str(raised.value)
    assert "architecture 'mine'" in message or "mine.toml: network: " in message
    assert fault in message
    assert remedy in message
    assert "\n" not in message


def test_a_rest_of_one_image_is_found_before_training(
    preset_of: Preset_of, small_summary: DataSummary, cpu: torch.device
) -> None:
    """Batch norm over features cannot train on one image: the batch size is what to change."""
    preset = with_training(preset_of(PUBLIC["batch norm"]), batch_size=small_summary.train_count - 1)
    with pytest.raises(ArchitectureError, match=r"a batch of 1 in training mode: .*or another batch size"):
        check_network(preset, small_summary, device=cpu)


def test_the_check_leaves_the_global_generator_alone(
    preset: Preset, small_summary: DataSummary, cpu: torch.device
) -> None:
    """A caller's random numbers do not depend on it."""
    before = torch.get_rng_state()
    check_network(preset, small_summary, device=cpu)
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_repeats_itself(
    preset_of: Preset_of, tmp_path: Path, small_dataset: Dataset, small_summary: DataSummary, cpu: torch.device
) -> None:
    """The seed of the preset decides on what is dropped too, whatever was drawn before."""
    preset, losses = preset_of(PUBLIC["perceptron"]), []
    for _ in range(2):
        torch.rand(1)
        result = train(
            small_dataset, small_summary, preset, device=cpu, checkpoint=tmp_path / "1.pt", on_progress=lambda _: None
        )
        losses.append(result.step_losses)
    assert losses[0] == losses[1]


def test_a_colour_network_may_use_view() -> None:
    """Colours lie last in a pixel and first in what a network gets."""
    from models.classifier import ImageClassifier

    class View(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 64, 2)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.fc(functional.relu(self.conv(x)).view(-1, 4 * 64))
            return logits

    classifier = ImageClassifier(View(), (0.1, 0.2, 0.3), (0.3, 0.3, 0.3))
    assert classifier.logits(torch.zeros(5, 8, 8, 3, dtype=torch.uint8)).shape == (5, 2)


def test_a_network_that_asks_for_channels_last_is_tried_so() -> None:
    """`view` fails in that memory format: before the training, and not in it."""

    class View(nn.Module):
        channels_last = True

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4 * 64, 2)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.fc(functional.relu(self.conv(x)).view(-1, 4 * 64))
            return logits

    with pytest.raises(ValueError, match=r"view size is not compatible"):
        try_network(View(), (1, 8, 8), 2, batch_sizes={4}, device=torch.device("cpu"))
