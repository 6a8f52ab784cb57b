"""Changing what is served: a rewrite of CURRENT, and nothing else."""

from pathlib import Path

import pytest

from pipeline.errors import PublishError
from pipeline.versions.promote import promote, rollback
from pipeline.versions.repository import ModelRepository
from tests.pipeline.test_publish import publish_text


@pytest.fixture
def model(tmp_path: Path) -> ModelRepository:
    """Three versions, the third current."""
    for content in ("one", "two", "three"):
        publish_text(tmp_path / "repository", content)
    return ModelRepository(tmp_path / "repository" / "digits")


def test_promote_makes_any_version_current(model: ModelRepository) -> None:
    """Its number, the one before, and a higher generation."""
    current = promote(model, 1)
    assert (current.version, current.previous, current.generation) == (1, 3, 4)
    assert model.current() == current


def test_rollback_returns_to_the_one_before(model: ModelRepository) -> None:
    """And a second one undoes the first."""
    assert [rollback(model).version, rollback(model).version] == [2, 3]
    assert model.current().generation == 5


def test_both_are_in_the_history(model: ModelRepository) -> None:
    """Who looks later sees what was done."""
    promote(model, 1)
    rollback(model)
    assert [(entry.event, entry.version) for entry in model.history.entries()[3:]] == [("promote", 1), ("rollback", 3)]


def test_promoting_what_is_current_changes_nothing(model: ModelRepository) -> None:
    """No new generation, so no server looks again."""
    assert promote(model, 3).generation == 3


def test_no_version_directory_is_touched(model: ModelRepository) -> None:
    """Nothing is retrained, copied or deleted."""
    before = {path: path.stat().st_mtime_ns for path in model.directory.glob("[0-9]*/*")}
    promote(model, 1)
    assert {path: path.stat().st_mtime_ns for path in model.directory.glob("[0-9]*/*")} == before


def test_a_version_that_is_not_there_is_refused(model: ModelRepository) -> None:
    """The message lists those that are."""
    with pytest.raises(PublishError, match="has no version 9; expected one of 1, 2, 3"):
        promote(model, 9)


def test_a_damaged_version_is_refused(model: ModelRepository) -> None:
    """Serving would refuse it too, and go on with the old one."""
    path = model.path(1) / "model.onnx"
    path.chmod(0o644)
    path.write_text("rotten")
    with pytest.raises(PublishError, match="is not what was published"):
        promote(model, 1)
    assert model.current().version == 3


def test_promoting_mends_a_garbled_current(model: ModelRepository) -> None:
    """An operator's way out, and the generation goes on rising."""
    path = model.directory / "CURRENT"
    path.chmod(0o644)
    path.write_text("garbage")
    assert promote(model, 2).generation == 4
    assert model.current().version == 2


def test_a_current_that_was_deleted_does_not_turn_generations_back(model: ModelRepository) -> None:
    """Servers look at changes of CURRENT; history remembers how many there were."""
    (model.directory / "CURRENT").unlink()
    assert promote(model, 3).generation == 4


def test_an_emptied_manifest_is_refused(model: ModelRepository) -> None:
    """A manifest that lists nothing proves nothing."""
    path = model.path(1) / "manifest.json"
    path.chmod(0o644)
    path.write_text("{}")
    with pytest.raises(PublishError, match="is not what was published"):
        promote(model, 1)


def test_a_mistyped_repository_is_refused_and_left_alone(tmp_path: Path) -> None:
    """No folder appears where nobody meant one."""
    with pytest.raises(PublishError, match="is it the right repository"):
        promote(ModelRepository(tmp_path / "nope" / "digits"), 1)
    assert not (tmp_path / "nope").exists()


def test_a_first_version_cannot_be_rolled_back(tmp_path: Path) -> None:
    """There is nothing before it."""
    publish_text(tmp_path / "repository", "one")
    with pytest.raises(PublishError, match="no version was current before version 1"):
        rollback(ModelRepository(tmp_path / "repository" / "digits"))
