"""`python -m pipeline run`: what a person types and what comes back."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.__main__ import main
from tests.pipeline.presets import write_preset
from tests.programs import ROOT, run_program


@pytest.fixture
def preset(tmp_path: Path) -> Path:
    """The default preset, cut to one epoch."""
    return write_preset(tmp_path / "short.toml", epochs="1")


@pytest.fixture
def arguments(small_folder: Path, preset: Path, tmp_path: Path) -> list[str | Path]:
    """A quick run without Prefect."""
    repository = tmp_path / "repository"
    command = ["pipeline", "run", "--no-prefect", "--device", "cpu"]
    return [*command, "--dataset", small_folder, "--preset", preset, "--repository", repository]


def test_a_run_publishes_and_the_same_run_publishes_nothing_new(
    arguments: list[str | Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table for a person, JSON for a script; the second time one line, and all exit with 0: it is what was asked."""
    first = run_program(*arguments, OMP_NUM_THREADS="1", COLUMNS="120")
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("published version 1")
    for word in ("accuracy", "trained", "verified", "version directory"):
        assert word in first.stdout

    monkeypatch.setenv("COLUMNS", "120")
    assert main([*map(str, arguments[1:]), "--again", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["version"], told["is_new"]) == (1, False)
    assert told["path"] == str(tmp_path / "repository" / "digits" / "1")
    assert told["accuracy"] > 0.7

    assert main([*map(str, arguments[1:])]) == 0
    assert capsys.readouterr().out == "up to date: version 1 is what these data, config and code make\n"


def test_a_command_that_trains_nothing_does_without_torch() -> None:
    """Which takes seconds to import: `versions` and `promote` answer at once."""
    code = "import sys, pipeline.__main__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


FAULTS = {
    "an unknown preset": (["--preset", "huge"], "there is no preset 'huge'; expected accurate, default, lab"),
    "a folder without data": (["--dataset", "docs/adr"], "train-images-idx3-ubyte"),
    "a repository that is a file": (["--repository", "README.md"], "README.md"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_fails_is_told_in_one_line(
    arguments: list[str | Path], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, no traceback."""
    wrong, message = FAULTS[fault]
    assert main([*map(str, arguments[1:]), *wrong]) == 1
    told = capsys.readouterr().err
    last = told.strip().splitlines()[-1]
    assert last.startswith("pipeline: ")
    assert message in last
    assert "Traceback" not in told


WRONG = [
    [],
    ["fly"],
    ["run", "--device", "tpu"],
    ["run", "--colour"],
    ["run", "--model", "../x"],
    ["run", "--model", ""],
]


@pytest.mark.parametrize("arguments", WRONG, ids=" ".join)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    """And stderr says what was wrong."""
    done = run_program("pipeline", *arguments)
    assert done.returncode == 2
    assert done.stderr


def test_help_explains_every_option() -> None:
    """--help is exit code 0 and names the presets and the defaults."""
    done = run_program("pipeline", "run", "--help")
    assert done.returncode == 0
    for word in ("--repository", "model_repository", "default, lab", "--no-prefect", "--json"):
        assert word in done.stdout
