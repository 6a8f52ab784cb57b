"""Training on a card: the same steps as on the CPU, whatever repeats them."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from pipeline.check import DataSummary
from pipeline.config import Precision, Preset, load_preset
from pipeline.data.dataset import Dataset
from pipeline.data.split import load_split
from pipeline.train import train
from pipeline.training.checkpoint import build_classifier
from pipeline.training.device import choose_device, describe_device
from pipeline.training.plan import draw_plans
from pipeline.training.replay import WARM_UPS, Replayed
from pipeline.training.step import Step
from tests.pipeline.presets import with_training
from tests.programs import ROOT

LOOKING = """
import torch
from pipeline.training.replay import Replayed

number, seen, before = torch.zeros(1, device="cuda"), [], torch.cuda.current_stream()

def look():
    number.add_(1)
    seen.append(number.item())

repeated = Replayed(look)
for _ in range(7):
    repeated()
print(seen[-1], number.item(), torch.cuda.current_stream() == before)
"""

Losses = list[float]
Train = Callable[[Preset, str], Losses]


@pytest.fixture
def gpu() -> torch.device:
    """The card."""
    return torch.device("cuda")


@pytest.fixture
def train_on(tmp_path: Path, small_dataset: Dataset, small_summary: DataSummary) -> Train:
    """A function that trains on a few thousand images, on "cpu" or "cuda", and returns the loss of each step."""

    def train_on(preset: Preset, name: str) -> Losses:
        device, checkpoint = torch.device(name), tmp_path / "checkpoint.pt"
        result = train(
            small_dataset, small_summary, preset, device=device, checkpoint=checkpoint, on_progress=lambda _: None
        )
        return [loss for _, loss in result.step_losses]

    return train_on


def small_accurate(precision: Precision = "float32", **changes: object) -> Preset:
    """Everything that a training can have, in a network that few steps do not lead astray."""
    preset = load_preset("accurate")
    network = preset.network.model_copy(update={"features": (1, 4, 4, 4, 4)})
    return with_training(preset.model_copy(update={"network": network}), precision=precision, **changes)


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_a_card_is_taken(name: str) -> None:
    """With a card, auto and cuda are the card, and its description names it."""
    device = choose_device("auto" if name == "auto" else "cuda")
    assert device.type == "cuda"
    assert describe_device(device) == f"cuda: {torch.cuda.get_device_name()}"


@pytest.mark.parametrize(
    "preset",
    [
        pytest.param(with_training(load_preset("default"), epochs=1, batch_size=512, learning_rate=0.001), id="adamw"),
        pytest.param(small_accurate(epochs=1, batch_size=512, learning_rate=0.001), id="sgd and everything else"),
    ],
)
def test_a_card_takes_the_steps_of_the_cpu(train_on: Train, preset: Preset) -> None:
    """Seven steps, of which three are replayed and the last is smaller, have the same losses but for rounding."""
    here = train_on(preset, "cpu")
    assert len(here) == 7
    assert train_on(preset, "cuda") == pytest.approx(here, rel=1e-3)


def test_a_replayed_step_is_the_step(gpu: torch.device, small_dataset: Dataset, small_summary: DataSummary) -> None:
    """Twelve steps by a graph and twelve by calls end with the same losses."""
    preset = with_training(load_preset("default"), epochs=1, batch_size=128, learning_rate=0.001)
    split = load_split(small_dataset, "train", gpu)
    losses = []
    for is_replayed in (False, True):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            classifier = build_classifier(preset.network, mean=small_summary.means, std=small_summary.stds).to(gpu)
        step = Step(classifier.train(), split, preset.training)
        step.begin(next(draw_plans(len(split.labels), 28, preset.training)))
        take = partial(step, 128)
        repeated = Replayed(take) if is_replayed else take
        for _ in range(12):
            repeated()
        losses.append(step.losses[:12])
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-4, atol=1e-5)


def test_a_step_that_looks_at_its_numbers_is_called_instead() -> None:
    """What cannot be recorded is done all the same, step for step, and a warning says why it is slow."""
    # In a process of its own: torch keeps a recording that failed in mind.
    ran = subprocess.run([sys.executable, "-c", LOOKING], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["7.0", "7.0", "True"]
    assert "training without a CUDA graph, and slower: " in ran.stderr
    assert "captur" in ran.stderr


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
def test_an_epoch_never_waits_for_the_card(
    gpu: torch.device, small_dataset: Dataset, small_summary: DataSummary
) -> None:
    """Torch itself fails a step that would wait: in the sync debug mode "error" it raises."""
    preset = small_accurate(batch_size=256)
    split = load_split(small_dataset, "train", gpu)
    classifier = build_classifier(preset.network, mean=small_summary.means, std=small_summary.stds).to(gpu).train()
    step = Step(classifier, split, preset.training)
    step.begin(next(draw_plans(len(split.labels), 28, preset.training)))
    take = Replayed(partial(step, 256))
    for _ in range(WARM_UPS + 1):
        take()  # recording waits, once
    try:
        torch.cuda.set_sync_debug_mode("error")
        for _ in range(5):
            take()
        step(100)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    assert step.losses[: WARM_UPS + 7].isfinite().all()


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_short_numbers_learn_as_well(train_on: Train, precision: Precision) -> None:
    """TF32 and bfloat16 lead to nearly the same losses."""
    full = train_on(small_accurate(epochs=1, batch_size=512, learning_rate=0.001), "cuda")
    short = train_on(small_accurate(precision, epochs=1, batch_size=512, learning_rate=0.001), "cuda")
    assert short == pytest.approx(full, rel=0.03)


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_a_step_computes_in_what_was_asked_for(
    gpu: torch.device, small_dataset: Dataset, small_summary: DataSummary, precision: Precision, dtype: torch.dtype
) -> None:
    """A convolution's output is seen as it leaves the layer; the weights stay float32."""
    preset = small_accurate(precision, batch_size=256)
    split = load_split(small_dataset, "train", gpu)
    classifier = build_classifier(preset.network, mean=small_summary.means, std=small_summary.stds).to(gpu).train()
    seen: list[torch.dtype] = []
    convolution = next(module for module in classifier.modules() if isinstance(module, torch.nn.Conv2d))
    convolution.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))
    step = Step(classifier, split, preset.training)
    step.begin(next(draw_plans(len(split.labels), 28, preset.training)))
    step(256)
    assert seen == [dtype]
    assert {weight.dtype for weight in classifier.parameters()} == {torch.float32}
