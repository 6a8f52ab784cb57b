"""A rehearsal that cannot be carried out: the run fails, keeps its candidate, publishes nothing, and is tried again."""

import shutil
from pathlib import Path

import pytest

from pipeline import rehearse
from pipeline.errors import RehearsalError
from pipeline.request import Request
from pipeline.scheduling.attempt import attempt
from pipeline.versions.repository import ModelRepository
from tests.pipeline.presets import write_preset
from tests.pipeline.receiver import receiving
from tests.programs import ROOT


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout whose server does not start."""
    for package in ("pipeline", "serving"):
        shutil.copytree(ROOT / package, tmp_path / "checkout" / package)
    (tmp_path / "checkout" / "serving" / "__main__.py").write_text("raise SystemExit('no port is free')\n")
    monkeypatch.setattr(rehearse, "ROOT", tmp_path / "checkout")


@pytest.mark.usefixtures("broken")
def test_the_run_fails_and_the_next_one_trains_again(small_folder: Path, tmp_path: Path) -> None:
    """Twice the same: never "Up to date", each candidate is kept, and whoever is to be told is told."""
    preset = write_preset(tmp_path / "short.toml", epochs="1")
    kept = tmp_path / "runs" / "data" / "candidates" / "digits"
    with receiving() as receiver:
        request = Request(
            repository=tmp_path / "repository",
            preset=str(preset),
            device="cpu",
            dataset=small_folder,
            cache=tmp_path / "runs" / "data",
            notify_url=receiver.url,
        )
        for run in (1, 2):
            with pytest.raises(RehearsalError, match="no port is free; the candidate is kept in ") as told:
                attempt(request)
            assert len(list(kept.iterdir())) == run
            newest = max(kept.iterdir())
            assert str(newest) in str(told.value)
            assert {"model.onnx", "features.onnx", "known_answers.npz"} <= {path.name for path in newest.iterdir()}
            assert [notice["event"] for notice in receiver.notices] == ["failed"] * run
    model = ModelRepository(tmp_path / "repository" / "digits")
    assert (model.versions(), model.current().version, model.history.entries()) == ([], 0, [])
