"""A crash at any moment of a change leaves a whole repository, and what a change has returned from is on the disk."""

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from google.protobuf import json_format

from pipeline.publish import publish
from pipeline.versions.collect import collect
from pipeline.versions.promote import promote, rollback
from pipeline.versions.repository import ModelRepository
from protos.artifact.layout import sha256_of
from protos.artifact.v1.manifest_pb2 import HistoryEntry, Manifest
from tests.pipeline.crash_states import Event, State, crash_states, recording


def candidate(folder: Path, content: str) -> Path:
    """A candidate whose files are short."""
    (folder / "report").mkdir(parents=True)
    for name in ("model.onnx", "known_answers.npz", "report/index.html"):
        (folder / name).write_text(f"{name} of {content}")
    return folder


def publish_text(repository: Path, content: str) -> None:
    """Publish a candidate with this content."""
    with TemporaryDirectory() as folder:
        publish(repository, candidate(Path(folder) / "candidate", content), Manifest(model_name="digits"))


def reject(model: ModelRepository) -> None:
    """Note that a candidate was rejected."""
    with model.writing():
        model.reject("floor: 10 %", "fingerprint")


Change = Callable[[Path, ModelRepository], object]
CHANGES: dict[str, Change] = {
    "publish": lambda repository, _: publish_text(repository, "four"),
    "promote": lambda _, model: promote(model, 1),
    "roll back": lambda _, model: rollback(model),
    "reject": lambda _, model: reject(model),
    "remove old versions": lambda _, model: collect(model, keep=1),
}


def record(folder: Path, change: Change, *, is_first: bool, has_bad_line: bool = False) -> list[Event]:
    """What a change does, in a repository with three versions or none."""
    repository = folder / "repository"
    model = ModelRepository(repository / "digits")
    repository.mkdir()
    for content in () if is_first else ("one", "two", "three"):
        publish_text(repository, content)
    if has_bad_line:
        history = model.directory / "HISTORY.jsonl"
        lines = history.read_bytes().splitlines(keepends=True)
        history.write_bytes(b"".join([lines[0], b"garbage\n", *lines[1:]]))
    with recording(repository) as events:
        change(repository, model)
    return events


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Event]]:
    """Every change, recorded once."""
    folders = {name: tmp_path_factory.mktemp("trace") for name in (*CHANGES, "first", "mend")}
    return {
        **{name: record(folders[name], change, is_first=False) for name, change in CHANGES.items()},
        "first": record(folders["first"], lambda repository, _: publish_text(repository, "one"), is_first=True),
        "mend": record(folders["mend"], lambda _, model: reject(model), is_first=False, has_bad_line=True),
    }


def faults(events: list[Event], ignored: str = "") -> Iterator[str]:
    """What is wrong with the states that a crash may leave."""
    final = next(state for state, is_over in crash_states([events[-1]]) if is_over)
    for state, is_over in crash_states(events, ignored):
        with TemporaryDirectory() as name:
            state.write(Path(name))
            model = ModelRepository(Path(name) / "digits")
            yield from _broken(model, was_empty=not events[0].files)
            yield from _forgotten(model, events[0])
            if is_over:
                yield from _lost(state, final)
            yield from _unfinished(Path(name), model)


def _broken(model: ModelRepository, *, was_empty: bool) -> Iterator[str]:
    current = model.current()
    if not current.version and not was_empty:
        yield "CURRENT is gone"
    for version in model.versions():
        if not model.is_servable(version):
            yield f"version {version} is not whole"
    if current.version:
        manifest = model.path(current.version) / "manifest.json"
        if not manifest.exists() or sha256_of(manifest) != current.sha256:
            yield f"CURRENT names version {current.version}, which is not there"
    elif (model.directory / "CURRENT").exists():
        yield "CURRENT is torn"


def _forgotten(model: ModelRepository, before: Event) -> Iterator[str]:
    """HISTORY has every line that it had, and no change that CURRENT does not have: it would never be served."""
    (had,) = [content for content in before.files.values() if b'"event"' in content] or [b""]
    path = model.directory / "HISTORY.jsonl"
    got = path.read_bytes().splitlines() if path.exists() else []
    if not {line for line in had.splitlines() if line != b"garbage"} <= set(got):
        yield "a line of HISTORY is gone"
    if max([0, *(entry.generation for entry in model.history.entries())]) > model.current().generation:
        yield "HISTORY names a change that CURRENT does not have"


def _lost(state: State, final: State) -> Iterator[str]:
    """What the change had done when it returned."""
    got, expected = dict(state.files), dict(final.files)
    for name, content in expected.items():
        is_kept = ".staging" not in name and ".lock" not in name
        if is_kept and got.get(name) != content:
            yield f"{name} is lost"


def _unfinished(repository: Path, model: ModelRepository) -> Iterator[str]:
    """Whether the next run completes."""
    numbers = [0, *model.versions(), *(entry.version for entry in model.history.entries())]
    publish_text(repository, "the next run")
    current = model.current()
    if not model.is_whole(current.version) or current.version <= max(numbers):
        yield f"the next run published version {current.version}"
    lines = (model.directory / "HISTORY.jsonl").read_text().splitlines()
    for line in lines:
        json_format.Parse(line, HistoryEntry())


@pytest.mark.parametrize("name", [*CHANGES, "first", "mend"])
def test_a_crash_leaves_a_whole_repository(traces: dict[str, list[Event]], name: str) -> None:
    """CURRENT names a whole version, no half one has a number, the next run completes, and nothing done is lost."""
    assert list(faults(traces[name])) == []


def test_every_fsync_is_needed(traces: dict[str, list[Event]]) -> None:
    """Without any one of them some crash leaves less."""
    places = {event.place for events in traces.values() for event in events if event.synced}
    assert len(places) >= 8
    needless = {
        place
        for place in places
        if not any(
            next(faults(events, ignored=place), None)
            for events in traces.values()
            if any(event.place == place for event in events)
        )
    }
    assert needless == set()
