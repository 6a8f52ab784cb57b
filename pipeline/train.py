"""Trains a classifier on one device, on which the whole data set is resident: no loader, no copy inside an epoch."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from models.classifier import ImageClassifier
from pipeline.check import DataSummary
from pipeline.config import Preset, Training
from pipeline.data.dataset import Dataset
from pipeline.data.split import Split, load_split
from pipeline.errors import TrainingError
from pipeline.training.checkpoint import build_classifier, save_checkpoint
from pipeline.training.device import describe_device, multiply_as, seeded
from pipeline.training.plan import batch_sizes, draw_plans
from pipeline.training.replay import Replayed
from pipeline.training.step import Step

LOOK_EVERY_STEPS = 50  # at the loss; a GPU, which a look makes wait for the host, is looked at once an epoch
STEP_LOSS_COUNT = 200  # at most, as many as a figure can show


@dataclass(frozen=True)
class Progress:
    """How far the training is; epochs and steps are counted from 1, steps over all epochs."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float


@dataclass(frozen=True)
class Epoch:
    """An epoch that is done: its number, from 1, the losses of its steps, and the classifier as it stands then."""

    number: int
    losses: Tensor  # (step,)
    classifier: ImageClassifier


@dataclass(frozen=True)
class TrainingResult:
    """Where the trained classifier lies, and how its training went."""

    checkpoint: Path
    epoch_losses: tuple[float, ...]  # the mean over the steps of each epoch
    step_losses: tuple[tuple[int, float], ...]  # (step, loss), thinned
    seed: int
    device: str
    duration_s: float


def train(
    dataset: Dataset,
    summary: DataSummary,
    preset: Preset,
    *,
    device: torch.device,
    checkpoint: Path,
    on_progress: Callable[[Progress], None],
    on_epoch: Callable[[Epoch], None] = lambda _epoch: None,
) -> TrainingResult:
    """Train the preset's network and write it to `checkpoint`; TrainingError names the step of a non-finite loss.

    On a CPU the same preset, data and number of threads give the same bytes.
    """
    training = preset.training
    _fix_thread_count()
    split = load_split(dataset, "train", device)
    with seeded(training.seed, device), multiply_as(training.precision):
        classifier = _initial_classifier(preset, summary, device)
        start = time.perf_counter()
        losses = _fit(classifier, split, training, on_progress, on_epoch)
        duration_s = time.perf_counter() - start
    save_checkpoint(checkpoint, classifier, preset.network)
    return TrainingResult(
        checkpoint=checkpoint,
        epoch_losses=tuple(losses.view(training.epochs, -1).mean(dim=1).tolist()),
        step_losses=_thin(losses.tolist()),
        seed=training.seed,
        device=describe_device(device),
        duration_s=duration_s,
    )


def _fix_thread_count() -> None:
    """Keep MKL from choosing anew, call by call, how many threads share a sum: its result depends on it.

    Only an explicit number ends that choice (MKL_DYNAMIC); without one, 1 of 30 runs here ended in other bytes.
    """
    torch.set_num_threads(torch.get_num_threads())


def _initial_classifier(preset: Preset, summary: DataSummary, device: torch.device) -> ImageClassifier:
    """Draw the first weights on the CPU, alike for every device."""
    classifier = build_classifier(preset.network, mean=summary.means, std=summary.stds).to(device)
    if classifier.channels_last:
        classifier.to(memory_format=torch.channels_last)
    return classifier.train()


def _fit(
    classifier: ImageClassifier,
    split: Split,
    training: Training,
    on_progress: Callable[[Progress], None],
    on_epoch: Callable[[Epoch], None],
) -> Tensor:
    """Take all steps and return their losses (step,), which stay on the device until somebody looks."""
    count, is_on_gpu = len(split.labels), split.images.is_cuda
    sizes = batch_sizes(count, training.batch_size)
    take = Step(classifier, split, training)
    take_full = Replayed(partial(take, training.batch_size)) if is_on_gpu else partial(take, training.batch_size)
    look_every = len(sizes) if is_on_gpu else LOOK_EVERY_STEPS
    plans = draw_plans(count, split.images.shape[1], training)
    plan, step = next(plans), 0
    for epoch in range(1, training.epochs + 1):
        take.begin(plan)
        for place, size in enumerate(sizes, start=1):
            if size == training.batch_size:
                take_full()
            else:
                take(size)
            step += 1
            if place == len(sizes) and epoch < training.epochs:
                plan = next(plans)  # drawn while a GPU still works on what it was given
            if step % look_every == 0 or place == len(sizes):
                _demand_finite(take.losses[:step], training)
                loss = take.losses[step - 1].item()
                on_progress(Progress(epoch, training.epochs, step, len(take.losses), loss))
        on_epoch(Epoch(epoch, take.losses[step - len(sizes) : step], classifier))
    take.finish()
    return take.losses


def _demand_finite(losses: Tensor, training: Training) -> None:
    finite = losses.isfinite()
    if finite.all():
        return
    step = int(finite.logical_not().nonzero()[0]) + 1
    raise TrainingError(
        f"the loss became {losses[step - 1].item()} at step {step}; expected a finite number: "
        f"lower training.learning_rate ({training.learning_rate:g})"
    )


def _thin(losses: list[float]) -> tuple[tuple[int, float], ...]:
    stride = -(-len(losses) // STEP_LOSS_COUNT)
    return tuple((step, losses[step - 1]) for step in range(1, len(losses) + 1, stride))
