"""Trains a classifier on one device, on which the whole data set is resident: no loader, no copy inside an epoch."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from models.classifier import ImageClassifier
from pipeline.check import DataSummary
from pipeline.config import Preset, Training
from pipeline.data.dataset import Dataset, Split, load_split
from pipeline.errors import TrainingError
from pipeline.training.augment import augment
from pipeline.training.checkpoint import build_classifier, save_checkpoint
from pipeline.training.device import describe_device
from pipeline.training.optimise import make_average, make_optimizer, make_schedule

LOOK_EVERY_STEPS = 50  # a look at the loss makes a GPU wait for the host
STEP_LOSS_COUNT = 200  # at most, as many as a figure can show
MOVE_SEED_OFFSET = 2**31  # beyond every seed of a preset, so that no two generators ever start alike


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
    """Draw the first weights on the CPU, alike for every device, and leave torch's global generators as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(preset.training.seed)  # torch.manual_seed would seed CUDA too
        classifier = build_classifier(preset.network, mean=summary.means, std=summary.stds)
    # Channels last makes an epoch on a CPU a quarter shorter (1.64 s to 1.23 s: n = 7, torch 2.14.1, two Xeon cores).
    return classifier.to(device).to(memory_format=torch.channels_last).train()


def _fit(
    classifier: ImageClassifier,
    split: Split,
    training: Training,
    on_progress: Callable[[Progress], None],
    on_epoch: Callable[[Epoch], None],
) -> Tensor:
    """Take all steps and return their losses (step,), which stay on the device until somebody looks."""
    steps_per_epoch = -(-len(split.labels) // training.batch_size)
    steps = training.epochs * steps_per_epoch
    optimizer = make_optimizer(classifier, training)
    schedule = make_schedule(optimizer, training, steps)
    average = make_average(classifier, training, steps_per_epoch)
    losses = torch.zeros(steps, device=split.images.device)
    for step, (images, labels) in enumerate(_batches(split, training), start=1):
        loss = functional.cross_entropy(classifier.logits(images), labels, label_smoothing=training.label_smoothing)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if average is not None:
            average.update_parameters(classifier)
        losses[step - 1] = loss.detach()
        if step % LOOK_EVERY_STEPS == 0 or step % steps_per_epoch == 0:
            _demand_finite(losses[:step], training)
            epoch = -(-step // steps_per_epoch)
            on_progress(Progress(epoch, training.epochs, step, steps, losses[step - 1].item()))
        if step % steps_per_epoch == 0:
            on_epoch(Epoch(step // steps_per_epoch, losses[step - steps_per_epoch : step], classifier))
    if average is not None:
        classifier.load_state_dict(average.module.state_dict())
    return losses


def _batches(split: Split, training: Training) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the images and labels of each batch, every image once an epoch.

    Their order, and how each image is moved, are the same on every device and independent of each other.
    """
    order_generator = torch.Generator().manual_seed(training.seed)
    move_generator = torch.Generator().manual_seed(training.seed + MOVE_SEED_OFFSET)
    for _ in range(training.epochs):
        order = torch.randperm(len(split.labels), generator=order_generator).to(split.images.device)
        for batch in torch.split(order, training.batch_size):
            yield augment(split.images[batch], training.augmentation, move_generator), split.labels[batch]


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
