"""Trains presets with several seeds and prints the accuracy: mean, standard deviation, least, seconds.

    python -m tests.benchmarks.bench_presets [SEEDS] [PRESET …]

Without names, every preset. These are the figures in the comments of pipeline/presets. What shares the cores makes the
training longer, so the time that the process had on a core is printed as well.
"""

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from pipeline.check import check
from pipeline.config import Preset, load_preset
from pipeline.data.dataset import Dataset
from pipeline.evaluate import evaluate
from pipeline.fetch import fetch
from pipeline.presets import preset_names
from pipeline.train import train
from pipeline.training.device import choose_device, describe_device
from tests.pipeline.presets import with_training

SEEDS = 5


@dataclass(frozen=True)
class Measured:
    """One training."""

    validation: float  # accuracy, percent
    test: float  # accuracy, percent
    duration_s: float
    core_s: float  # of all threads together


def measure(preset: Preset, dataset: Dataset, device: torch.device, folder: Path) -> Measured:
    """Train once, and look at what came of it."""
    summary = check(dataset, classes=preset.network.classes, size=preset.network.sizes[0])
    checkpoint, start_s = folder / "checkpoint.pt", time.process_time()
    result = train(dataset, summary, preset, device=device, checkpoint=checkpoint, on_progress=lambda _: None)
    core_s = time.process_time() - start_s
    validation = evaluate(checkpoint, dataset, split="validation", device=device)
    test = evaluate(checkpoint, dataset, split="test", device=device)
    return Measured(100 * validation.accuracy, 100 * test.accuracy, result.duration_s, core_s)


def describe(name: str, rounds: list[Measured]) -> str:
    """Three lines a preset."""
    accuracies = {
        "test": [one.test for one in rounds],
        "validation": [one.validation for one in rounds],
    }
    lines = [
        f"{name if split == 'test' else '':10} {split} {statistics.mean(values):.2f} % "
        f"(sd {statistics.stdev(values):.2f}, least {min(values):.2f}, seeds 0 to {len(values) - 1})"
        for split, values in accuracies.items()
    ]
    duration_s = statistics.median(one.duration_s for one in rounds)
    core_s = statistics.median(one.core_s for one in rounds)
    return "\n".join([*lines, f"{'':10} {duration_s:.1f} s of training, {core_s:.1f} s of a core"])


def main(seeds: int, names: list[str]) -> None:
    """Print what came of each preset as soon as it is known."""
    device = choose_device("auto")
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            preset = load_preset(name)
            fraction = preset.data.validation_fraction
            dataset = fetch(None, validation_fraction=fraction, download=False, cache=Path(folder))
            rounds = []
            for seed in range(seeds):
                rounds.append(one := measure(with_training(preset, seed=seed), dataset, device, Path(folder)))
                told = f"test {one.test:.2f} %, validation {one.validation:.2f} %, {one.duration_s:.1f} s"
                print(f"{name}, seed {seed}: {told}", file=sys.stderr, flush=True)
            print(describe(name, rounds), flush=True)
    print(f"torch {torch.__version__}, {describe_device(device)}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seeds", nargs="?", type=int, default=SEEDS, help="at least 2, for a standard deviation")
    parser.add_argument("presets", nargs="*", default=preset_names(), metavar="PRESET")
    given = parser.parse_args()
    main(given.seeds, given.presets)
