"""Trains every preset with several seeds and prints the accuracy: mean, standard deviation, least, seconds.

    python -m tests.benchmarks.bench_presets [SEEDS]

These are the figures in the comments of pipeline/presets.
"""

import statistics
import sys
import tempfile
from pathlib import Path

import torch

from pipeline.check import check
from pipeline.config import Preset, load_preset, preset_names
from pipeline.dataset import Dataset
from pipeline.device import choose_device, describe_device
from pipeline.evaluate import evaluate
from pipeline.fetch import fetch
from pipeline.train import train
from tests.pipeline.presets import with_training

SEEDS = 5


def measure(preset: Preset, dataset: Dataset, device: torch.device, folder: Path) -> tuple[float, float]:
    """Train once; accuracy on the test images, [0, 1], and seconds of training."""
    summary = check(dataset, classes=preset.network.classes, size=preset.network.sizes[0])
    checkpoint = folder / "checkpoint.pt"
    result = train(dataset, summary, preset, device=device, checkpoint=checkpoint, on_progress=lambda _: None)
    return evaluate(checkpoint, dataset, split="test", device=device).accuracy, result.duration_s


def main(seeds: int) -> None:
    """Print a row a preset."""
    device = choose_device("auto")
    with tempfile.TemporaryDirectory() as folder:
        for name in preset_names():
            fraction = load_preset(name).data.validation_fraction
            dataset = fetch(None, validation_fraction=fraction, download=False, cache=Path(folder))
            presets = [with_training(load_preset(name), seed=seed) for seed in range(seeds)]
            rows = [measure(preset, dataset, device, Path(folder)) for preset in presets]
            accuracies, seconds = zip(*rows, strict=True)
            mean, sd, least = (100 * figure(accuracies) for figure in (statistics.mean, statistics.stdev, min))
            print(f"{name:10} accuracy {mean:.2f} % (sd {sd:.2f}, least {least:.2f}, seeds 0 to {seeds - 1})")
            print(f"{'':10} {statistics.median(seconds):.1f} s of training")
    print(f"torch {torch.__version__}, {describe_device(device)}, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS)
