"""Ctrl-C: a run ends without a version, whatever swallows the exception."""

import subprocess
import sys
from pathlib import Path

from pipeline.interrupt import EXIT_CODE
from tests.pipeline.presets import write_preset
from tests.programs import ROOT

SWALLOWED = """
import os, runpy, signal, sys, pipeline.run
compare = pipeline.run.compare

class Finaliser:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)  # what is raised here, Python drops
        for _ in range(1000):
            pass

def interrupted(*arguments):
    Finaliser()
    return compare(*arguments)

pipeline.run.compare = interrupted
sys.argv[0] = "digits"
runpy.run_module("pipeline", run_name="__main__")
"""


def test_an_interrupt_that_was_swallowed_publishes_nothing(small_folder: Path, tmp_path: Path) -> None:
    """Python drops an exception in a finaliser, and the run would go on and publish."""
    preset = write_preset(tmp_path / "small.toml")
    repository = tmp_path / "repository"
    command: list[str | Path] = [
        sys.executable,
        "-c",
        SWALLOWED,
        "run",
        "--no-prefect",
        "--dataset",
        small_folder,
        "--preset",
        preset,
    ]
    command += ["--repository", repository, "--cache", tmp_path / "cache", "--device", "cpu", "--force"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode in (EXIT_CODE, -2), done.stderr
    assert "pipeline: interrupted" in done.stderr
    assert "Exception ignored in" in done.stderr
    assert not (repository / "digits" / "1").exists()
