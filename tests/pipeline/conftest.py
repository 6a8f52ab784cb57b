"""What the pipeline's tests share: the real data set, and a small part of it."""

import fcntl
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
import torch

from pipeline.check import DataSummary, check
from pipeline.config import Preset, load_preset
from pipeline.data.dataset import IMAGES, LABELS, Dataset, Half, read_file
from pipeline.fetch import fetch
from pipeline.train import train
from tests.pipeline.candidates import CPU, Candidate, make_candidate
from tests.pipeline.idx_files import write_folder
from tests.pipeline.presets import with_training

T = TypeVar("T")
SMALL_COUNTS: dict[Half, int] = {"train": 4000, "test": 1000}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Let torch use one thread: two test processes with two each, on two cores, spin and wait for minutes."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The whole data set, from the embedded copy."""
    return fetch(None, validation_fraction=0.15, download=False, cache=tmp_path_factory.mktemp("unused"))


@pytest.fixture(scope="session")
def small_folder(mnist: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of plain IDX files with the first few thousand images of MNIST."""
    names = [(names[split], count) for names in (IMAGES, LABELS) for split, count in SMALL_COUNTS.items()]
    arrays = {name: read_file(mnist, name)[:count] for name, count in names}
    return write_folder(tmp_path_factory.mktemp("small"), arrays)


@pytest.fixture(scope="session")
def small_dataset(small_folder: Path) -> Dataset:
    """The first few thousand images of MNIST as a data set of its own."""
    return fetch(small_folder, validation_fraction=0.15, download=False, cache=small_folder)


@pytest.fixture(scope="session")
def small_summary(small_dataset: Dataset) -> DataSummary:
    """What the check says of the small data set."""
    return check(small_dataset, classes=10, size=28)


@pytest.fixture
def preset() -> Preset:
    """The default preset, cut to one epoch."""
    return with_training(load_preset("default"), epochs=1)


@pytest.fixture
def cpu() -> torch.device:
    """The device that is always there."""
    return torch.device("cpu")


Once = Callable[[str, Callable[[Path], T]], T]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once[T]:
    """Calls a function with an empty folder in the first test process that asks by this name; gives the others that."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def once(name: str, make: Callable[[Path], T]) -> T:
        made = shared / f"{name}.pickle"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                folder = shared / name
                folder.mkdir()
                made.write_bytes(pickle.dumps(make(folder)))
        result: T = pickle.loads(made.read_bytes())  # noqa: S301 - our own
        return result

    return once


@pytest.fixture(scope="session")
def checkpoint(small_dataset: Dataset, small_summary: DataSummary, once: Once[Path]) -> Path:
    """The default network after one epoch on the small data set."""

    def make(folder: Path) -> Path:
        path = folder / "checkpoint.pt"
        preset = with_training(load_preset("default"), epochs=1)
        train(small_dataset, small_summary, preset, device=CPU, checkpoint=path, on_progress=lambda _: None)
        return path

    return once("trained", make)


@pytest.fixture(scope="session")
def candidate(small_dataset: Dataset, once: Once[Candidate]) -> Candidate:
    """What a run would ask the gates about: the default network after three epochs on the small data set."""
    preset = with_training(load_preset("default"), epochs=3)
    return once("candidate", lambda folder: make_candidate(small_dataset, preset, folder / "0"))
