"""A refusal in the history: kept, and in nobody's way."""

from pathlib import Path

import pytest

from pipeline.gates.reject import reject
from pipeline.gates.verdict import Verdict
from pipeline.versions.promote import promote
from pipeline.versions.repository import ModelRepository
from protos.artifact.v1.manifest_pb2 import Manifest
from serving.errors import VersionRefusedError
from serving.versions.manifest import find_published
from tests.pipeline.test_publish import publish_text

REFUSED = Manifest(model_name="digits", fingerprint="f" * 64)
TOO_LOW = Verdict("floor", False, "too low")
TOO_SLOW = Verdict("latency", False, "too slow")


@pytest.fixture
def model(tmp_path: Path) -> ModelRepository:
    """Two versions, the second current, and a refusal after them."""
    for content in ("one", "two"):
        publish_text(tmp_path / "repository", content)
    reject(tmp_path / "repository", REFUSED, [TOO_LOW])
    return ModelRepository(tmp_path / "repository" / "digits")


def test_the_reason_is_kept(model: ModelRepository) -> None:
    """With the time and what the run was made of; it has no version and no generation."""
    entry = model.history.entries()[-1]
    assert (entry.event, entry.reason, entry.fingerprint) == ("reject", "floor: too low", "f" * 64)
    assert (entry.version, entry.generation, entry.sha256) == (0, 0, "")
    assert entry.time.seconds > 1_700_000_000


@pytest.mark.parametrize(
    ("verdicts", "kept"),
    [([TOO_SLOW], ""), ([TOO_SLOW, TOO_LOW], "f" * 64)],
    ids=["the machine was the reason", "the candidate would be refused on any machine"],
)
def test_the_same_candidate_may_come_again_where_the_machine_was_the_reason(
    model: ModelRepository, tmp_path: Path, verdicts: list[Verdict], kept: str
) -> None:
    """A busy night must not keep a good candidate out for ever: without a fingerprint it is trained again."""
    reject(tmp_path / "repository", REFUSED, verdicts)
    entry = model.history.entries()[-1]
    assert (entry.reason, entry.fingerprint) == ("latency: too slow", kept)


def test_a_line_that_is_half_written_is_not_read(model: ModelRepository) -> None:
    """Its writer was killed, or writes it now."""
    with (model.directory / "HISTORY.jsonl").open("a") as file:
        file.write('{"event": "publ')
    assert [entry.event for entry in model.history.entries()] == ["publish", "publish", "reject"]


def test_what_is_served_stays(model: ModelRepository) -> None:
    """CURRENT is as it was, and no folder came."""
    assert (model.current().version, model.current().generation) == (2, 2)
    assert model.versions() == [1, 2]


def test_the_next_writer_finds_nothing_to_mend(model: ModelRepository, tmp_path: Path) -> None:
    """A refusal at the end of the history is no sign of a killed writer."""
    reject(tmp_path / "repository", REFUSED, [TOO_LOW])
    assert [entry.event for entry in model.history.entries()] == ["publish", "publish", "reject", "reject"]


def test_the_next_version_goes_on_counting(model: ModelRepository, tmp_path: Path) -> None:
    """Numbers and generations."""
    publication = publish_text(tmp_path / "repository", "three")
    assert (publication.version, model.current().generation) == (3, 3)


def test_promoting_goes_on_counting(model: ModelRepository) -> None:
    """Generations rise over refusals."""
    assert promote(model, 1).generation == 3


def test_a_writer_that_was_killed_before_a_refusal_is_mended(model: ModelRepository, tmp_path: Path) -> None:
    """CURRENT had changed, its line was not written: it comes before the refusal."""
    path = model.directory / "HISTORY.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0])
    reject(tmp_path / "repository", REFUSED, [TOO_LOW])
    assert [entry.event for entry in model.history.entries()] == ["publish", "publish", "reject"]


def test_a_refusal_of_the_first_candidate_makes_no_version(tmp_path: Path) -> None:
    """There is a history and nothing to serve, and the first version is 1."""
    reject(tmp_path / "repository", REFUSED, [TOO_LOW])
    model = ModelRepository(tmp_path / "repository" / "digits")
    assert (model.versions(), model.current().version) == ([], 0)
    assert publish_text(tmp_path / "repository", "one").version == 1


def test_serving_reads_over_it(model: ModelRepository) -> None:
    """A version by its number is found as before; 0 is none."""
    assert find_published(model.directory, 1).generation == 1
    with pytest.raises(VersionRefusedError, match="has no version 3"):
        find_published(model.directory, 3)
