"""Makes the two version directories that serving's tests serve: `python -m tests.serving.make_versions`.

They are committed, so that serving's tests need no torch; tests/contract holds them to what is published today.
"""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.config import PRESETS
from pipeline.run import Request, run

VERSIONS = Path(__file__).parent / "versions"


def make_versions() -> None:
    """Publish the default preset with two seeds and keep both version directories."""
    shutil.rmtree(VERSIONS, ignore_errors=True)
    with TemporaryDirectory() as folder:
        for seed in (0, 1):
            preset = Path(folder) / f"seed-{seed}.toml"
            text = (PRESETS / "default.toml").read_text()
            preset.write_text(text.replace("seed = 0", f"seed = {seed}"))
            publication = run(Request(repository=Path(folder), preset=str(preset), device="cpu")).publication
            shutil.copytree(publication.path, VERSIONS / str(publication.version))


if __name__ == "__main__":
    make_versions()
