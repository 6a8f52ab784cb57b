"""A repository that nothing could be published in stops a run before its training."""

from pathlib import Path

import pytest

from pipeline.errors import PublishError
from pipeline.request import Request
from pipeline.run import run
from pipeline.train import Progress
from tests.pipeline.presets import write_preset


def block_folder(model: Path) -> None:
    """A file where the model's folder should be."""
    model.parent.mkdir()
    model.write_text("")


def block_lock(model: Path) -> None:
    """A directory where the lock should be."""
    (model / ".lock").mkdir(parents=True)


@pytest.mark.parametrize("block", [block_folder, block_lock])
def test_it_stops_before_the_training(block: object, small_folder: Path, tmp_path: Path) -> None:
    """With one message; not a step of the training is made."""
    assert callable(block)
    block(tmp_path / "repository" / "digits")
    preset = write_preset(tmp_path / "short.toml", epochs="1")
    steps: list[Progress] = []
    request = Request(
        repository=tmp_path / "repository",
        preset=str(preset),
        device="cpu",
        dataset=small_folder,
        cache=tmp_path / "runs" / "data",
    )
    with pytest.raises(PublishError, match=r"cannot be (written|read)"):
        run(request, on_progress=steps.append)
    assert steps == []


def test_what_is_merely_damaged_is_named_and_skipped(
    small_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The run publishes beside it, under a number that nothing uses."""
    model = tmp_path / "repository" / "digits"
    (model / "00000009").mkdir(parents=True)
    (model / "7").mkdir()
    (model / "HISTORY.jsonl").write_text("garbage\n")
    preset = write_preset(tmp_path / "short.toml", epochs="1", floor="0.1")
    request = Request(
        repository=tmp_path / "repository",
        preset=str(preset),
        device="cpu",
        dataset=small_folder,
        cache=tmp_path / "runs" / "data",
        force=True,
    )
    outcome = run(request)
    assert getattr(outcome, "publication", None) is not None
    assert (model / "8" / "manifest.json").is_file()
    assert all(word in caplog.text for word in ("00000009", "version 7 is skipped", "HISTORY.jsonl.bad-1"))
