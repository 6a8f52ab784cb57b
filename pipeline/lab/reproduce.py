"""The lab as one sentence: sample digits, filter them, pool them, compare both CNNs, train the classifier."""

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from pipeline.check import DataSummary, check
from pipeline.config import Preset
from pipeline.data.dataset import Dataset
from pipeline.data.split import Split, load_split
from pipeline.errors import ConfigError
from pipeline.lab.pictures import Filtered, Pooled, Samples, apply_filters, pool_digits, sample
from pipeline.lab.trials import Trial, run_trials
from pipeline.lab.twins import ROUNDS, Twins, compare
from pipeline.train import Progress
from pipeline.training.device import describe_device
from pipeline.versions.provenance import code_revision, package_versions


@dataclass(frozen=True)
class Origin:
    """What, where and when, so that somebody else can do it again."""

    device: str
    threads: int
    versions: dict[str, str]
    revision: str
    created: str
    duration_s: float


@dataclass(frozen=True)
class Reproduction:
    """All that the page shows."""

    dataset: Dataset
    summary: DataSummary
    preset: Preset
    samples: Samples
    filtered: Filtered
    pooled: tuple[Pooled, ...]
    twins: tuple[Twins, ...]
    twin_rounds: int
    trials: tuple[Trial, ...]
    origin: Origin


def reproduce(
    dataset: Dataset,
    preset: Preset,
    *,
    seeds: Sequence[int],
    device: torch.device,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
    twin_rounds: int = ROUNDS,
) -> Reproduction:
    """Do the notebook's tasks on a data set; ConfigError for fewer than two seeds, which have no spread."""
    if len(seeds) < 2:
        raise ConfigError(f"{len(seeds)} training has no spread to compare with; expected at least 2 seeds")
    start = time.perf_counter()
    summary = check(dataset, classes=preset.network.classes, size=preset.network.sizes[0])
    split = load_split(dataset, "train", torch.device("cpu"))
    batch = _normalised(split, summary, preset.training.batch_size).to(device)
    with TemporaryDirectory(prefix="lab-") as folder:
        return Reproduction(
            dataset=dataset,
            summary=summary,
            preset=preset,
            samples=sample(split, preset.network.classes),
            filtered=apply_filters(split, summary),
            pooled=pool_digits(split),
            twins=compare(preset.network, batch, rounds=twin_rounds),
            twin_rounds=twin_rounds,
            trials=run_trials(
                dataset, summary, preset, seeds, device=device, folder=Path(folder), on_progress=on_progress
            ),
            origin=_origin(device, time.perf_counter() - start),
        )


def _normalised(split: Split, summary: DataSummary, count: int) -> torch.Tensor:
    """The first training images as the network sees them: float32 (image, 1, row, column)."""
    return ((split.images[:count].float() / 255 - summary.mean) / summary.std).unsqueeze(1)


def _origin(device: torch.device, duration_s: float) -> Origin:
    """Called when all is done."""
    return Origin(
        device=describe_device(device),
        threads=torch.get_num_threads(),
        versions={"python": platform.python_version(), **package_versions(), "matplotlib": version("matplotlib")},
        revision=code_revision(),
        created=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        duration_s=duration_s,
    )
