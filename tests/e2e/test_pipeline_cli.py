"""`python -m pipeline run`: what a person types and what comes back."""

import json
from pathlib import Path

import pytest

from tests.pipeline.presets import write_preset
from tests.programs import run_program


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


def test_a_run_publishes_and_the_same_run_publishes_nothing_new(arguments: list[str | Path], tmp_path: Path) -> None:
    """First version 1, then the word that it is there already; both exit with 0."""
    first, again = (run_program(*arguments, "--again", "--json", OMP_NUM_THREADS="1") for _ in range(2))
    assert first.returncode == again.returncode == 0, first.stderr + again.stderr
    told = json.loads(first.stdout), json.loads(again.stdout)
    assert [(summary["version"], summary["is_new"]) for summary in told] == [(1, True), (1, False)]
    assert told[0]["path"] == str(tmp_path / "repository" / "digits" / "1")
    assert told[0]["accuracy"] == told[1]["accuracy"] > 0.7


def test_a_run_that_finds_nothing_changed_says_so(arguments: list[str | Path]) -> None:
    """In one line, and with exit code 0: the version is what was asked for."""
    assert run_program(*arguments, OMP_NUM_THREADS="1").returncode == 0
    again = run_program(*arguments, OMP_NUM_THREADS="1", COLUMNS="120")
    assert again.returncode == 0
    assert again.stdout == "up to date: version 1 is what these data, config and code make\n"


def test_a_person_reads_a_table(arguments: list[str | Path]) -> None:
    """Verdict first, then the figures."""
    done = run_program(*arguments, OMP_NUM_THREADS="1", COLUMNS="120")
    assert done.stdout.startswith("published version 1")
    for word in ("accuracy", "trained", "verified", "version directory"):
        assert word in done.stdout


FAULTS = {
    "an unknown preset": (["--preset", "huge"], "there is no preset 'huge'; expected accurate, default, lab"),
    "a folder without data": (["--dataset", "docs/adr"], "train-images-idx3-ubyte"),
    "a repository that is a file": (["--repository", "README.md"], "README.md"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_fails_is_told_in_one_line(arguments: list[str | Path], fault: str) -> None:
    """Exit code 1, no traceback."""
    wrong, message = FAULTS[fault]
    done = run_program(*arguments, *wrong, OMP_NUM_THREADS="1")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("pipeline: ")
    assert message in last
    assert "Traceback" not in done.stderr


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
