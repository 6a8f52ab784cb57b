"""A refused candidate, from the command line and under Prefect's names: a completed run that published nothing."""

import json
from pathlib import Path

import pytest

from pipeline.__main__ import main
from pipeline.versions.repository import ModelRepository
from tests.pipeline.presets import write_preset
from tests.programs import server_process


@pytest.fixture
def arguments(small_folder: Path, tmp_path: Path) -> list[str]:
    """A run whose floor no network reaches."""
    preset = write_preset(tmp_path / "short.toml", epochs="1", floor="1.0")
    command = ["run", "--no-prefect", "--device", "cpu"]
    return [
        *command,
        *map(str, ("--dataset", small_folder, "--preset", preset, "--repository", tmp_path / "repository")),
    ]


@pytest.fixture
def model(tmp_path: Path) -> ModelRepository:
    """Where it would be published."""
    return ModelRepository(tmp_path / "repository" / "digits")


def test_a_refusal_is_exit_code_0_and_its_reason_comes_first(
    arguments: list[str],
    model: ModelRepository,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The history keeps it; there is no version, and the test images were not read for it."""
    monkeypatch.setenv("COLUMNS", "150")
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert told.startswith("Not promoted: floor: ")
    assert "required at least 100.00 %" in told
    assert "REJECTED: floor" in told
    assert "passed: rehearsal" in told
    assert "test images" not in told
    assert (model.versions(), model.current().version) == ([], 0)
    (entry,) = model.history.entries()
    assert entry.event == "reject"
    assert entry.reason.startswith("floor: ")


def test_a_script_reads_the_verdicts(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """`promoted` is false; what a refused candidate has not got is null."""
    assert main([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["promoted"], told["forced"]) == (False, False)
    assert told["version"] is told["path"] is told["accuracy"] is told["test_loss"] is None
    refused = [verdict["gate"] for verdict in told["verdicts"] if not verdict["passed"]]
    assert refused == ["floor"]
    assert told["verdict"].startswith("Not promoted: floor: ")


def test_force_publishes_it_and_the_manifest_says_so(
    arguments: list[str], model: ModelRepository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the verdict that was overruled; a server, which waits for its first version, confirms it."""
    with server_process(tmp_path / "repository", tmp_path / "log", "--provider", "cpu") as server:
        assert main([*arguments, "--force", "--confirm", server.address, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["confirmation"] == f"{server.address} answers with version 1 on CPUExecutionProvider"
    assert (told["promoted"], told["forced"], told["version"], told["is_new"]) == (True, True, 1, True)
    assert told["verdict"] == "published version 1, although floor refused it"
    manifest = model.manifest(1)
    assert manifest.forced
    assert [verdict.gate for verdict in manifest.verdicts if not verdict.passed] == ["floor"]
    assert manifest.evaluation.image_count == 1000
    assert [entry.event for entry in model.history.entries()] == ["publish"]
