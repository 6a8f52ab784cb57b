"""Makes the version directories that serving's tests serve: `python -m tests.serving.make_versions`.

They are committed, so that serving's tests need no torch; tests/contract holds them to what is published today.
Versions 1 and 2 differ by their seed; version 3 takes smaller images, the middle of MNIST's; version 4 takes colour
images of 20 x 20 pixels, the letters A to E.
"""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.data.dataset import FILE_NAMES, Dataset, read_file
from pipeline.fetch import fetch
from pipeline.request import Request
from pipeline.run import run
from pipeline.versions.durable import write_durably
from pipeline.versions.history import to_json
from pipeline.versions.repository import CARD, REPORT, ModelRepository
from protos.artifact.layout import MANIFEST
from scripts.make_letters import make_letters
from tests.outcomes import published
from tests.pipeline.idx_files import write_folder
from tests.pipeline.presets import write_preset

VERSIONS = Path(__file__).parent / "versions"
MARGIN = 2
"""Pixels that version 3 leaves out on every side: 24 x 24 remain, and every digit in them is whole."""

LETTERS = {
    "features": "[3, 8, 16]",
    "sizes": "[20, 10, 5]",
    "classes": "5",
    "pooling": '"max"',
    "learning_rate": "0.02",
    "batch_size": "32",
    "epochs": "12",
}
"""What version 4's preset has in place of the default's lines."""


def make_versions() -> None:
    """Publish the default preset, and what LETTERS makes of it, and keep the version directories."""
    shutil.rmtree(VERSIONS, ignore_errors=True)
    with TemporaryDirectory() as name:
        folder = Path(name)
        smaller = crop(fetch(None, validation_fraction=0.15, download=False, cache=folder), folder / "cropped")
        for changes, dataset in (
            ({"seed": "0"}, None),
            ({"seed": "1"}, None),
            ({"sizes": "[24, 12, 6]"}, smaller),
            (LETTERS, make_letters(folder / "letters")),
        ):
            preset = write_preset(folder / "preset.toml", **changes)
            request = Request(
                repository=folder / "repository",
                preset=str(preset),
                device="cpu",
                dataset=dataset,
                cache=folder / "cache",
            )
            made = published(run(request))
            copy_without_pages(made.path, VERSIONS / str(made.version))


def copy_without_pages(version: Path, copy: Path) -> None:
    """Keep what a server reads: report and model card would be most of the bytes."""
    shutil.copytree(version, copy, ignore=shutil.ignore_patterns(REPORT, CARD))
    manifest = ModelRepository(version.parent).manifest(int(version.name))
    kept = [file for file in manifest.files if (copy / file.path).is_file()]
    del manifest.files[:]
    manifest.files.extend(kept)
    (copy / MANIFEST).unlink()
    write_durably(copy / MANIFEST, to_json(manifest))


def crop(dataset: Dataset, folder: Path) -> Path:
    """Write the data set without the margin of its images."""
    arrays = {name: read_file(dataset, name) for name in FILE_NAMES}
    inside = slice(MARGIN, -MARGIN)
    return write_folder(
        folder, {name: array[:, inside, inside] if array.ndim == 3 else array for name, array in arrays.items()}
    )


if __name__ == "__main__":
    make_versions()
