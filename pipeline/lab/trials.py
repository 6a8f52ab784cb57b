"""Task 5 over several seeds: the same training, each time from other weights and in another order."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from models.classifier import ImageClassifier
from pipeline.check import DataSummary
from pipeline.config import Preset
from pipeline.data.dataset import Dataset
from pipeline.data.split import Split, load_split
from pipeline.evaluate import Evaluation, evaluate
from pipeline.train import Epoch, Progress, train


@dataclass(frozen=True)
class Trial:
    """One training, and how good its classifier is on the test images."""

    seed: int
    losses: tuple[tuple[float, ...], ...]
    """Of every step's batch, a row an epoch."""
    epoch_accuracies: tuple[float, ...]
    """On the test images, after each epoch, as the notebook prints it; nothing was chosen by it."""
    evaluation: Evaluation
    duration_s: float


@dataclass(frozen=True)
class Spread:
    """Of a figure over the trials: the mean, and the standard deviation of one trial (n - 1)."""

    mean: float
    sd: float
    least: float
    most: float


def spread(values: Iterable[float]) -> Spread:
    """Summarise at least two values."""
    known = list(values)
    return Spread(statistics.mean(known), statistics.stdev(known), min(known), max(known))


def run_trials(
    dataset: Dataset,
    summary: DataSummary,
    preset: Preset,
    seeds: Sequence[int],
    *,
    device: torch.device,
    folder: Path,
    on_progress: Callable[[Progress], None],
) -> tuple[Trial, ...]:
    """Train once with each seed; `on_progress` is told of all trainings as if they were one."""
    test = load_split(dataset, "test", device)
    return tuple(
        _run_trial(
            dataset,
            summary,
            _with_seed(preset, seed),
            test,
            checkpoint=folder / f"seed-{seed}.pt",
            on_progress=_as_one(on_progress, index, len(seeds)),
        )
        for index, seed in enumerate(seeds)
    )


def _run_trial(
    dataset: Dataset,
    summary: DataSummary,
    preset: Preset,
    test: Split,
    *,
    checkpoint: Path,
    on_progress: Callable[[Progress], None],
) -> Trial:
    losses: list[tuple[float, ...]] = []
    accuracies: list[float] = []

    def on_epoch(epoch: Epoch) -> None:
        losses.append(tuple(epoch.losses.tolist()))
        accuracies.append(_accuracy(epoch.classifier, test))

    device = test.images.device
    training = train(
        dataset, summary, preset, device=device, checkpoint=checkpoint, on_progress=on_progress, on_epoch=on_epoch
    )
    evaluation = evaluate(checkpoint, dataset, split="test", device=device)
    return Trial(training.seed, tuple(losses), tuple(accuracies), evaluation, training.duration_s)


@torch.no_grad()
def _accuracy(classifier: ImageClassifier, split: Split) -> float:
    return (classifier.logits(split.images).argmax(dim=1) == split.labels).float().mean().item()


def _with_seed(preset: Preset, seed: int) -> Preset:
    return preset.model_copy(update={"training": preset.training.model_copy(update={"seed": seed})})


def _as_one(on_progress: Callable[[Progress], None], index: int, count: int) -> Callable[[Progress], None]:
    """Tell the progress of training `index`, from 0, of `count` alike ones as that of all."""

    def tell(progress: Progress) -> None:
        on_progress(
            replace(
                progress,
                epoch=index * progress.epochs + progress.epoch,
                epochs=count * progress.epochs,
                step=index * progress.steps + progress.step,
                steps=count * progress.steps,
            )
        )

    return tell
