"""Compares changes of a preset in pairs: each is trained with the same seeds as the preset itself.

    python -m tests.benchmarks.bench_recipes PRESET CHANGE … [--seeds N] [--epochs N]

A change is one or more values in TOML's words, such as 'training.label_smoothing = 0.02' or, of several,
'training.momentum = 0.8; training.learning_rate = 0.2'. Only the validation images are looked at: this is where
recipes are chosen. A recipe that wins in few epochs need not win in many.
"""

import argparse
import statistics
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pipeline.calibrate import calibrate
from pipeline.check import check
from pipeline.config import Preset, load_preset
from pipeline.data.dataset import Dataset
from pipeline.evaluate import Evaluation, evaluate
from pipeline.fetch import fetch
from pipeline.train import train
from pipeline.training.device import choose_device, describe_device
from tests.pipeline.presets import with_training


def changed(preset: Preset, change: str) -> Preset:
    """The preset with the values that `change` names; raises ValueError where they make none."""
    return Preset.model_validate(_merged(preset.model_dump(), tomllib.loads(change.replace(";", "\n"))))


def _merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = {
        name: _merged(values.get(name, {}), value) if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    return values | merged


def measure(preset: Preset, dataset: Dataset, device: torch.device, folder: Path) -> Evaluation:
    """Train and calibrate once, and look at the validation images; uncalibrated, smoothed labels raise every loss."""
    summary = check(dataset, classes=preset.network.classes, size=preset.network.sizes[0])
    checkpoint = folder / "checkpoint.pt"
    train(dataset, summary, preset, device=device, checkpoint=checkpoint, on_progress=lambda _: None)
    calibrate(checkpoint, dataset, device=device)
    return evaluate(checkpoint, dataset, split="validation", device=device)


def describe(rounds: Sequence[Evaluation], base: Sequence[Evaluation]) -> str:
    """Accuracy, loss and calibration error, and how far the first two are from the preset's, seed by seed."""
    gains = [100 * (one.accuracy - other.accuracy) for one, other in zip(rounds, base, strict=True)]
    losses = [one.loss - other.loss for one, other in zip(rounds, base, strict=True)]
    spread = f" (sd {statistics.stdev(gains):.3f})" if len(gains) > 1 else ""
    return (
        f"{100 * statistics.mean(one.accuracy for one in rounds):.3f} %, {statistics.mean(gains):+.3f} points{spread}, "
        f"better with {sum(gain > 0 for gain in gains)} of {len(gains)} seeds; "
        f"loss {statistics.mean(one.loss for one in rounds):.4f}, {statistics.mean(losses):+.4f}; "
        f"calibration error {100 * statistics.mean(one.calibration_error for one in rounds):.2f} %"
    )


def main(name: str, changes: Sequence[str], seeds: int, epochs: int | None) -> None:
    """Print a line for the preset and one for each change."""
    device = choose_device("auto")
    preset = load_preset(name)
    recipes = {name: preset} | {change: changed(preset, change) for change in changes}
    with tempfile.TemporaryDirectory() as folder:
        fraction = preset.data.validation_fraction
        dataset = fetch(None, validation_fraction=fraction, download=False, cache=Path(folder))
        base: list[Evaluation] = []
        for told, recipe in recipes.items():
            shortened = with_training(recipe, epochs=epochs or recipe.training.epochs)
            rounds = [
                measure(with_training(shortened, seed=seed), dataset, device, Path(folder)) for seed in range(seeds)
            ]
            base = base or rounds
            print(f"{told}: {describe(rounds, base)}", flush=True)
    print(f"torch {torch.__version__}, {describe_device(device)}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset", metavar="PRESET")
    parser.add_argument("changes", nargs="+", metavar="CHANGE")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, help="instead of the preset's")
    given = parser.parse_args()
    main(given.preset, given.changes, given.seeds, given.epochs)
