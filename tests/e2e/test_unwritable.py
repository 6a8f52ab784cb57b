"""A repository that nothing could be published in stops a run before its training."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.errors import PublishError
from pipeline.request import Request
from pipeline.run import run
from pipeline.train import Progress
from tests.pipeline.presets import write_preset


@pytest.fixture
def request_(small_folder: Path, tmp_path: Path) -> Request:
    """A short run into a repository of its own."""
    return Request(
        repository=tmp_path / "repository",
        preset=str(write_preset(tmp_path / "short.toml", epochs="1")),
        device="cpu",
        dataset=small_folder,
        cache=tmp_path / "runs" / "data",
    )


def block_folder(model: Path) -> None:
    """A file where the model's folder should be."""
    model.parent.mkdir()
    model.write_text("")


def block_lock(model: Path) -> None:
    """A directory where the lock should be."""
    (model / ".lock").mkdir(parents=True)


@pytest.mark.parametrize("block", [block_folder, block_lock])
def test_it_stops_before_the_training(block: Callable[[Path], None], request_: Request, tmp_path: Path) -> None:
    """With one message; not a step of the training is made."""
    block(tmp_path / "repository" / "digits")
    steps: list[Progress] = []
    with pytest.raises(PublishError, match=r"cannot be (written|read)"):
        run(request_, on_progress=steps.append)
    assert steps == []


def test_what_is_merely_damaged_is_named_and_skipped(
    request_: Request, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The run publishes beside it, under a number that nothing uses."""
    model = tmp_path / "repository" / "digits"
    for stray in ("00000009", "1", "7", "999999999"):
        (model / stray).mkdir(parents=True)
    (model / "HISTORY.jsonl").write_text("garbage\n")
    outcome = run(replace(request_, force=True))
    assert getattr(outcome, "publication", None) is not None
    assert (model / "2" / "manifest.json").is_file()
    assert all(word in caplog.text for word in ("00000009", "version 7 is skipped", "HISTORY.jsonl.bad-1"))


def test_a_full_disk_is_told_before_the_training(request_: Request, monkeypatch: pytest.MonkeyPatch) -> None:
    """With how much is there, and how much is expected."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    with pytest.raises(PublishError, match="1048576 bytes are free, expected at least "):
        run(request_, on_progress=lambda _: pytest.fail("it trains"))
