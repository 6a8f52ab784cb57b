"""Training on a card: seconds and accuracy of the presets, what a CUDA graph gains, and the notebook's loop beside."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch

from models.classifier import ImageClassifier
from pipeline.check import DataSummary, check
from pipeline.config import Precision, Preset, load_preset
from pipeline.data.dataset import Dataset
from pipeline.data.split import load_split
from pipeline.evaluate import evaluate
from pipeline.fetch import fetch
from pipeline.train import Progress, train
from tests.benchmarks.bench_training import NotebookImages, notebook_epoch
from tests.pipeline.presets import with_training

PRECISIONS: Sequence[Precision] = ("float32", "tf32", "bfloat16")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Trained:
    """One training."""

    duration_s: float
    setting_up_s: float
    """What the first epoch took beyond the median of the others: warming up, recording, compiling."""
    epoch_s: float
    accuracy: float
    """On the test images, percent."""


class Trainer:
    """Trains on one device, on MNIST."""

    def __init__(self, device: torch.device, folder: Path) -> None:
        self.device = device
        self.dataset: Dataset = fetch(None, download=False, cache=folder)
        self.summary: DataSummary = check(self.dataset, classes=10, size=28)
        self._checkpoint = folder / "checkpoint.pt"

    def loading_s(self) -> float:
        """How long the training images take from their files onto the device."""
        began = time.perf_counter()
        load_split(self.dataset, "train", self.device)
        _wait_for(self.device)
        return time.perf_counter() - began

    def train(self, preset: Preset, device: torch.device | None = None) -> Trained:
        """Train once."""
        device = device or self.device
        ends = [time.perf_counter()]

        def on_progress(progress: Progress) -> None:
            if progress.step * progress.epochs == progress.epoch * progress.steps:
                ends.append(time.perf_counter())

        result = train(
            self.dataset, self.summary, preset, device=device, checkpoint=self._checkpoint, on_progress=on_progress
        )
        ends[0] = ends[-1] - result.duration_s
        first_s, *others_s = [after - before for before, after in pairwise(ends)]
        epoch_s = statistics.median(others_s or [first_s])
        accuracy = 100 * evaluate(self._checkpoint, self.dataset, split="test", device=device).accuracy
        return Trained(result.duration_s, first_s - epoch_s, epoch_s, accuracy)


def measure(device: torch.device, *, seeds: int, presets: Sequence[str], epochs: int | None) -> dict[str, Any]:
    """Every figure of training; `epochs` cuts all trainings short, to see that everything runs."""
    with TemporaryDirectory() as folder:
        trainer = Trainer(device, Path(folder))
        cut: dict[str, Any] = {} if epochs is None else {"epochs": epochs}
        trainer.train(with_training(load_preset("default"), epochs=1))  # CUDA itself takes seconds to start
        return {
            "loading_s": statistics.median(trainer.loading_s() for _ in range(3)),
            "presets": {
                f"{name}, {precision}": _seeds(trainer, load_preset(name), seeds, precision=precision, **cut)
                for name in presets
                for precision in PRECISIONS
            },
            "default on the CPU": _seeds(trainer, load_preset("default"), seeds, on=CPU, **cut),
            "repeating": _repeating(trainer, cut),
            "notebook": _beside_the_notebook(trainer),
        }


def _seeds(trainer: Trainer, preset: Preset, seeds: int, *, on: torch.device | None = None, **changes: Any) -> Any:
    return [asdict(trainer.train(with_training(preset, seed=seed, **changes), on)) for seed in range(seeds)]


def _repeating(trainer: Trainer, cut: Mapping[str, Any]) -> dict[str, Any]:
    """The default preset, its steps repeated in three ways."""
    preset = with_training(load_preset("default"), **cut)

    def call(step: Callable[[], None]) -> Callable[[], None]:
        return step

    compiled: Any = torch.compile(ImageClassifier.logits)
    ways: Mapping[str, Callable[[], AbstractContextManager[Any]]] = {
        "a CUDA graph": nullcontext,
        "kernel by kernel": lambda: patch("pipeline.train.Replayed", call),
        "torch.compile, then a CUDA graph": lambda: patch.object(ImageClassifier, "logits", compiled),
    }
    found: dict[str, Any] = {}
    for way, inside in ways.items():
        torch.compiler.reset()
        with inside():
            try:
                found[way] = asdict(trainer.train(preset))
            except Exception as error:
                found[way] = f"failed: {str(error).strip().splitlines()[0]}"
    return found


def _beside_the_notebook(trainer: Trainer) -> dict[str, float]:
    """Seconds of an epoch of the lab preset on the same card, taking turns."""
    images = NotebookImages(load_split(trainer.dataset, "train", CPU))
    preset = with_training(load_preset("lab"), epochs=3)
    theirs, ours = [], []
    for _ in range(3):
        theirs.append(notebook_epoch(images, trainer.device))
        ours.append(trainer.train(preset).epoch_s)
    return {"notebook_epoch_s": statistics.median(theirs), "our_epoch_s": statistics.median(ours)}


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
