"""Old versions go, whole or not at all; the current one and the way back stay."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import PublishError
from pipeline.versions.collect import collect, removable
from pipeline.versions.promote import promote, rollback
from pipeline.versions.repository import ModelRepository
from tests.pipeline.test_publish import publish_text
from tests.programs import ROOT


@pytest.fixture
def model(tmp_path: Path) -> ModelRepository:
    """Eight versions, the last one current."""
    for number in range(1, 9):
        publish_text(tmp_path / "repository", f"model {number}")
    return ModelRepository(tmp_path / "repository" / "digits")


def test_the_newest_stay(model: ModelRepository) -> None:
    """As many as were asked for; the others are gone, the oldest first."""
    assert [removed.version for removed in collect(model, keep=5)] == [1, 2, 3]
    assert model.versions() == [4, 5, 6, 7, 8]
    assert all(model.is_whole(version) for version in model.versions())


def test_the_current_one_and_the_way_back_stay(model: ModelRepository) -> None:
    """However old they are: a rollback works afterwards."""
    promote(model, 1)
    promote(model, 3)
    collect(model, keep=1)
    assert model.versions() == [1, 3, 8]
    assert rollback(model).version == 1


def test_what_is_no_version_counts_for_nothing_and_stays(model: ModelRepository) -> None:
    """Neither an empty folder nor a copy takes the place of a version, and nobody's files are removed."""
    model.path(20).mkdir()
    shutil.copytree(model.path(1), model.path(30))
    assert [removed.version for removed in collect(model, keep=5)] == [1, 2, 3]
    assert model.versions() == [4, 5, 6, 7, 8, 20, 30]


def test_a_damaged_version_is_one_that_may_go(model: ModelRepository) -> None:
    """It was published, and its manifest was cut short later."""
    manifest = model.path(2) / "manifest.json"
    manifest.chmod(0o644)
    manifest.write_bytes(manifest.read_bytes()[:40])
    assert [removed.version for removed in collect(model, keep=5)] == [1, 2, 3]


def test_what_is_protected_stays(model: ModelRepository) -> None:
    """Such as what a server has been told to load by its number."""
    collect(model, keep=1, protect=[2])
    assert model.versions() == [2, 7, 8]


def test_a_protected_version_must_be_there(model: ModelRepository) -> None:
    """A mistyped number would leave the meant one unprotected."""
    with pytest.raises(PublishError, match="has no version 22 to protect"):
        collect(model, keep=1, protect=[22])
    assert len(model.versions()) == 8


def test_it_says_how_much_it_freed(model: ModelRepository) -> None:
    """All bytes of all files, those of the report too."""
    size = sum(path.stat().st_size for path in model.path(1).rglob("*") if path.is_file())
    assert collect(model, keep=7)[0].size_bytes == size > 0


def test_asking_changes_nothing(model: ModelRepository) -> None:
    """A dry run lists what would go, and leaves even the lock's time alone."""
    before = {path: path.stat().st_mtime_ns for path in model.directory.rglob("*")}
    assert [removed.version for removed in removable(model, keep=6)] == [1, 2]
    assert {path: path.stat().st_mtime_ns for path in model.directory.rglob("*")} == before


def test_numbers_are_not_used_again(model: ModelRepository) -> None:
    """Neither those that are gone, nor one that was never announced."""
    shutil.copytree(model.path(8), model.path(9))  # its writer was killed before it pointed CURRENT at it
    collect(model, keep=1)
    assert model.versions() == [7, 8, 9]
    assert publish_text(model.directory.parent, "another").version == 10
    assert 1 not in model.versions()


def test_a_damaged_version_can_go(model: ModelRepository) -> None:
    """Nobody has to mend what nobody wants."""
    (model.path(1) / "manifest.json").unlink()
    assert collect(model, keep=7)[0].version == 1


def test_nothing_goes_when_the_current_one_is_unknown(model: ModelRepository) -> None:
    """It might be the one that is served."""
    (model.directory / "CURRENT").unlink()
    with pytest.raises(PublishError, match="promote one first"):
        collect(model, keep=1)
    assert len(model.versions()) == 8


def test_a_mistyped_repository_is_left_alone(tmp_path: Path) -> None:
    """No folder appears where nobody meant one."""
    assert collect(ModelRepository(tmp_path / "nope" / "digits"), keep=1) == []
    assert not (tmp_path / "nope").exists()


def test_kill_9_at_every_step_leaves_whole_versions(tmp_path: Path) -> None:
    """The process is really killed before every line that it runs; the next writer frees the rest."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.pipeline.kill_collect", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["kills"] > 40
    assert told["left"] == [0, 1, 2]
