"""Training learns, repeats itself to the bit, tells how far it is, and stops when it goes astray."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from pipeline.check import DataSummary
from pipeline.config import Augmentation, Preset, load_preset
from pipeline.data.dataset import Dataset
from pipeline.data.split import load_split
from pipeline.errors import TrainingError
from pipeline.train import STEP_LOSS_COUNT, Progress, TrainingResult, train
from pipeline.training.checkpoint import build_classifier, load_checkpoint
from pipeline.training.device import describe_device
from tests.pipeline.presets import with_training

Train = Callable[..., TrainingResult]


@pytest.fixture
def train_small(tmp_path: Path, small_dataset: Dataset, small_summary: DataSummary, cpu: torch.device) -> Train:
    """A function that trains a preset on the small data set and writes its checkpoint under a name."""

    def train_small(preset: Preset, name: str = "1", on_progress: Callable[[Progress], None] = print) -> TrainingResult:
        path = tmp_path / f"{name}.pt"
        return train(small_dataset, small_summary, preset, device=cpu, checkpoint=path, on_progress=on_progress)

    return train_small


def _weights(result: TrainingResult) -> bytes:
    state = load_checkpoint(result.checkpoint, torch.device("cpu")).state_dict()
    return b"".join(tensor.numpy().tobytes() for tensor in state.values())


def test_the_same_seed_gives_the_same_bytes(train_small: Train, preset: Preset) -> None:
    """Two trainings of one preset end with the same weights and losses to the bit."""
    first, second = train_small(preset, "1"), train_small(preset, "2")
    assert _weights(first) == _weights(second)
    assert first.step_losses == second.step_losses


def test_the_same_seed_gives_the_same_bytes_with_everything_on(train_small: Train) -> None:
    """Batch norm, momentum, smoothing, movement and averaging repeat themselves to the bit as well."""
    preset = load_preset("accurate")
    network = preset.network.model_copy(update={"features": (1, 4, 4, 4, 4)})
    small = with_training(preset.model_copy(update={"network": network}), epochs=1, label_smoothing=0.1)
    first, second = train_small(small, "1"), train_small(small, "2")
    assert small.training.averaging_epochs
    assert small.training.momentum
    assert not small.training.augmentation.is_none
    assert _weights(first) == _weights(second)
    assert first.step_losses == second.step_losses


def test_another_seed_gives_another_network(train_small: Train, preset: Preset) -> None:
    """The seed of the preset decides on the first weights and on the order of the images."""
    first, second = train_small(preset, "1"), train_small(with_training(preset, seed=1), "2")
    assert _weights(first) != _weights(second)
    assert (first.seed, second.seed) == (0, 1)


def test_the_global_generator_is_left_alone(train_small: Train, preset: Preset) -> None:
    """Whoever draws random numbers after a training draws what they would have drawn without it."""
    before = torch.get_rng_state()
    train_small(preset)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", ["lab", "default"])
def test_one_step_is_what_the_textbook_says(
    train_small: Train, small_dataset: Dataset, small_summary: DataSummary, cpu: torch.device, name: str
) -> None:
    """One step of SGD on all images moves the first weights by the learning rate against the gradient."""
    changes = {"optimizer": "sgd", "schedule": "constant", "learning_rate": 0.1, "weight_decay": 0.0}
    preset = with_training(load_preset(name), **changes, epochs=1, batch_size=4000, seed=7)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        expected = build_classifier(preset.network, mean=small_summary.means, std=small_summary.stds)
    split = load_split(small_dataset, "train", cpu)
    loss = functional.cross_entropy(expected.logits(split.images), split.labels)
    gradients = torch.autograd.grad(loss, list(expected.parameters()))

    result = train_small(preset)

    trained = load_checkpoint(result.checkpoint, cpu)
    assert result.epoch_losses == pytest.approx([loss.item()], rel=1e-5)
    for after, before, gradient in zip(trained.parameters(), expected.parameters(), gradients, strict=True):
        torch.testing.assert_close(after, before - 0.1 * gradient, rtol=1e-4, atol=1e-5)


def test_smoothed_labels_cost_what_the_formula_says(
    train_small: Train, small_dataset: Dataset, small_summary: DataSummary, cpu: torch.device
) -> None:
    """With smoothing ε the loss is the mean of -Σ q log p: q has 1 - ε for the label, and ε/10 more for every class."""
    preset = with_training(load_preset("lab"), epochs=1, batch_size=4000, label_smoothing=0.3)
    with torch.random.fork_rng():
        torch.manual_seed(preset.training.seed)
        untrained = build_classifier(preset.network, mean=small_summary.means, std=small_summary.stds)
    split = load_split(small_dataset, "train", cpu)
    with torch.no_grad():
        logarithms = untrained(split.images)[0].double().log_softmax(dim=1)
    target = 0.7 * functional.one_hot(split.labels, 10) + 0.03
    expected = -(target * logarithms).sum(dim=1).mean().item()
    assert train_small(preset).epoch_losses == pytest.approx([expected], rel=1e-5)


def test_what_is_kept_is_the_average(train_small: Train, preset: Preset, cpu: torch.device) -> None:
    """An average over four steps has three quarters of the weights after one step and a quarter of the next."""
    still = {"schedule": "constant", "batch_size": 4000}
    first = load_checkpoint(train_small(with_training(preset, **still, epochs=1), "1").checkpoint, cpu)
    second = load_checkpoint(train_small(with_training(preset, **still, epochs=2), "2").checkpoint, cpu)
    kept = train_small(with_training(preset, **still, epochs=2, averaging_epochs=4.0), "3").checkpoint
    average = load_checkpoint(kept, cpu)
    for before, after, mean in zip(first.parameters(), second.parameters(), average.parameters(), strict=True):
        torch.testing.assert_close(mean, 0.75 * before + 0.25 * after)


def test_movement_leaves_the_order_of_the_images_alone(train_small: Train, preset: Preset) -> None:
    """An image that is moved by next to nothing is still the same byte for byte, and so is the training."""
    hardly = with_training(preset, augmentation=Augmentation(shift_pixels=1e-6))
    assert _weights(train_small(hardly, "1")) == _weights(train_small(preset, "2"))


def test_progress_ends_with_the_last_step(train_small: Train, preset: Preset) -> None:
    """Progress grows step by step to the end of each epoch, the last and smaller batch counted."""
    heard: list[Progress] = []
    result = train_small(with_training(preset, epochs=2, batch_size=64), on_progress=heard.append)
    assert [(told.epoch, told.step) for told in heard] == [(1, 50), (1, 53), (2, 100), (2, 106)]
    assert {(told.epochs, told.steps) for told in heard} == {(2, 106)}
    assert heard[-1].loss < heard[0].loss
    assert len(result.epoch_losses) == 2


def test_the_result_tells_how_it_went(train_small: Train, preset: Preset, cpu: torch.device) -> None:
    """The result names the device and the time, and thins the losses of many steps to as many as a figure shows."""
    result = train_small(with_training(preset, epochs=2, batch_size=16))
    steps = [step for step, _ in result.step_losses]
    assert steps == list(range(1, 425, 3))
    assert len(steps) <= STEP_LOSS_COUNT
    assert result.device == describe_device(cpu)
    assert result.duration_s > 0


def test_the_lab_preset_learns(train_small: Train) -> None:
    """One epoch of the notebook's recipe on a few thousand images takes a third off the loss."""
    result = train_small(with_training(load_preset("lab"), epochs=1))
    assert result.step_losses[-1][1] < result.step_losses[0][1] * 2 / 3


def test_a_loss_that_is_not_finite_stops_the_training(train_small: Train, tmp_path: Path) -> None:
    """An absurd learning rate stops the training at the very step, says what to do, and leaves no checkpoint."""
    preset = with_training(load_preset("lab"), learning_rate=1e30)
    with pytest.raises(
        TrainingError, match=r"the loss became nan at step 2; .*lower training.learning_rate \(1e\+30\)"
    ):
        train_small(preset)
    assert not list(tmp_path.iterdir())
