"""A refused candidate, from the command line and under Prefect's names: a completed run that published nothing."""

import json
from pathlib import Path

import pytest

from pipeline.__main__ import main
from pipeline.versions.repository import ModelRepository
from tests.pipeline.presets import write_preset
from tests.programs import run_program, server_process


@pytest.fixture
def arguments(small_folder: Path, tmp_path: Path) -> list[str | Path]:
    """A run whose floor no network reaches."""
    preset = write_preset(tmp_path / "short.toml", epochs="1", floor="1.0")
    command = ["pipeline", "run", "--no-prefect", "--device", "cpu"]
    return [*command, "--dataset", small_folder, "--preset", preset, "--repository", tmp_path / "repository"]


@pytest.fixture
def model(tmp_path: Path) -> ModelRepository:
    """Where it would be published."""
    return ModelRepository(tmp_path / "repository" / "digits")


def test_a_refusal_is_exit_code_0_and_its_reason_comes_first(
    arguments: list[str | Path], model: ModelRepository
) -> None:
    """The history keeps it; there is no version, and the test images were not read for it."""
    done = run_program(*arguments, OMP_NUM_THREADS="1", COLUMNS="150")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Not promoted: floor: ")
    assert "required at least 100.00 %" in done.stdout
    assert "REJECTED: floor" in done.stdout
    assert "passed: rehearsal" in done.stdout
    assert "test images" not in done.stdout
    assert (model.versions(), model.current().version) == ([], 0)
    (entry,) = model.history.entries()
    assert entry.event == "reject"
    assert entry.reason.startswith("floor: ")


def test_a_script_reads_the_verdicts(arguments: list[str | Path], capsys: pytest.CaptureFixture[str]) -> None:
    """`promoted` is false; what a refused candidate has not got is null."""
    assert main([*map(str, arguments[1:]), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["promoted"], told["forced"]) == (False, False)
    assert told["version"] is told["path"] is told["accuracy"] is told["test_loss"] is None
    refused = [verdict["gate"] for verdict in told["verdicts"] if not verdict["passed"]]
    assert refused == ["floor"]
    assert told["verdict"].startswith("Not promoted: floor: ")


def test_force_publishes_it_and_the_manifest_says_so(
    arguments: list[str | Path], model: ModelRepository, tmp_path: Path
) -> None:
    """With the verdict that was overruled; a server, which waits for its first version, confirms it."""
    with server_process(tmp_path / "repository", tmp_path / "log", "--provider", "cpu") as server:
        done = run_program(*arguments, "--force", "--confirm", server.address, "--json", OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["confirmation"] == f"{server.address} answers with version 1 on CPUExecutionProvider"
    assert (told["promoted"], told["forced"], told["version"], told["is_new"]) == (True, True, 1, True)
    assert told["verdict"] == "published version 1, although floor refused it"
    manifest = model.manifest(1)
    assert manifest.forced
    assert [verdict.gate for verdict in manifest.verdicts if not verdict.passed] == ["floor"]
    assert manifest.evaluation.image_count == 1000
    assert [entry.event for entry in model.history.entries()] == ["publish"]
