"""Whether there is anything to do."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest
import torch

from pipeline.config import Preset
from pipeline.confirm import confirm
from pipeline.errors import ConfirmError
from pipeline.outcome import Outcome, Stopped
from pipeline.request import Request
from pipeline.run import Step
from pipeline.scheduling.attempt import attempt
from pipeline.versions.fingerprint import find_made, fingerprint_of
from pipeline.versions.history import to_json
from pipeline.versions.manifest import recorded_test
from pipeline.versions.promote import promote, rollback
from pipeline.versions.provenance import ROOT, SOURCES, sources_sha256
from pipeline.versions.repository import ModelRepository
from protos.artifact.layout import HISTORY, MODEL
from protos.artifact.v1.manifest_pb2 import HistoryEntry
from tests.outcomes import ended, published
from tests.pipeline.presets import with_training, write_preset

P = ParamSpec("P")
R = TypeVar("R")

DATA = {"images": "1f", "labels": "2e"}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the code, outside git."""
    for folder in SOURCES:
        shutil.copytree(ROOT / folder, tmp_path / "checkout" / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "checkout"


def test_a_copy_of_the_code_elsewhere_is_the_same(checkout: Path) -> None:
    """With git or without."""
    assert sources_sha256(checkout) == sources_sha256()


def append(path: str) -> Callable[[Path], None]:
    """A change of one file of the checkout."""

    def change(checkout: Path) -> None:
        with (checkout / path).open("a") as file:
            file.write("# changed\n")

    return change


CHANGES: dict[str, Callable[[Path], None]] = {
    "a changed file": append("pipeline/train.py"),
    "a new file": lambda checkout: (checkout / "models" / "new.py").touch(),
    "a file that is gone": lambda checkout: (checkout / "models" / "pooling.py").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_code_has_a_say(preset: Preset, cpu: torch.device, checkout: Path, change: str) -> None:
    """Committed or not."""
    before = sources_sha256(checkout)
    CHANGES[change](checkout)
    assert sources_sha256(checkout) != before


def test_data_config_device_and_code_have_a_say(preset: Preset, cpu: torch.device) -> None:
    """Each alone."""
    all_of_them = {
        fingerprint_of(DATA, preset, cpu, "3d"),
        fingerprint_of({**DATA, "labels": "2f"}, preset, cpu, "3d"),
        fingerprint_of(DATA, with_training(preset, seed=7), cpu, "3d"),
        fingerprint_of(DATA, preset, torch.device("cuda"), "3d"),
        fingerprint_of(DATA, preset, cpu, "3e"),
    }
    assert len(all_of_them) == 5


@pytest.fixture(scope="module")
def first_request(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Request:
    """What was asked for of a run that published version 1."""
    folder = tmp_path_factory.mktemp("published")
    preset = write_preset(folder / "short.toml", epochs="1")
    request = Request(repository=folder / "repository", preset=str(preset), device="cpu", dataset=small_folder)
    assert isinstance(attempt(request), Outcome)
    return request


@pytest.fixture
def request_again(first_request: Request, tmp_path: Path) -> Request:
    """The same, of a copy of the repository that the test may change."""
    repository = tmp_path / "repository"
    shutil.copytree(first_request.repository, repository)
    return replace(first_request, repository=repository)


@pytest.fixture
def model(request_again: Request) -> ModelRepository:
    """That copy."""
    return ModelRepository(request_again.repository / "digits")


def test_a_second_run_finds_nothing_to_do(request_again: Request) -> None:
    """It names the version that the first one made."""
    ended = attempt(request_again)
    assert ended == Stopped("Up to date", "version 1 is what these data, config and code make", 1)


def test_again_trains_all_the_same(request_again: Request) -> None:
    """And publishes nothing new, as the bytes are the same."""
    outcome = attempt(replace(request_again, again=True))
    assert not published(outcome).is_new


@pytest.mark.parametrize("lost", ["CURRENT", "both"])
def test_a_version_whose_writer_was_killed_before_it_was_current_becomes_it(
    request_again: Request, model: ModelRepository, lost: str
) -> None:
    """A run with the same fingerprint is no reason to stop: it finishes what the killed one began."""
    (model.directory / "CURRENT").unlink()
    if lost == "both":
        (model.directory / HISTORY).unlink()
    assert not published(attempt(request_again)).is_new
    assert model.current().version == 1
    assert model.versions() == [1]


def test_a_server_is_asked_although_nothing_has_changed(
    request_again: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was to answer with the version, and perhaps it does not."""
    monkeypatch.setattr(confirm, "__kwdefaults__", {"within_s": 0.5})
    with pytest.raises(ConfirmError):
        attempt(replace(request_again, confirm="127.0.0.1:1"))


def test_the_test_images_are_not_read_again_for_the_same_bytes(request_again: Request, model: ModelRepository) -> None:
    """What they showed stands in the manifest, and that is what the run tells."""
    evaluated: list[object] = []
    outcome = ended(attempt(replace(request_again, again=True), noting_splits(evaluated)))
    assert evaluated == ["validation"]
    assert outcome.test == recorded_test(model.manifest(1))


def test_the_test_images_are_read_once_and_when_all_is_decided(request_again: Request, tmp_path: Path) -> None:
    """After the validation images of a version that is published, and never of a candidate that is refused."""
    for floor, expected in (("0.2", ["validation", "test"]), ("0.9999", ["validation"])):
        preset = write_preset(tmp_path / "another.toml", epochs="1", seed="7", floor=floor)
        evaluated: list[object] = []
        attempt(replace(request_again, preset=str(preset)), noting_splits(evaluated))
        assert evaluated == expected
        shutil.rmtree(request_again.repository)


def noting_splits(evaluated: list[object]) -> Step:
    """A step that is run as ever; `evaluated` gets the split of each evaluation."""

    def step(function: Callable[P, R]) -> Callable[P, R]:
        def noted(*arguments: P.args, **named: P.kwargs) -> R:
            if function.__name__ == "evaluate":
                evaluated.append(named["split"])
            return function(*arguments, **named)

        return noted

    return step


def test_a_version_that_is_damaged_is_made_anew(request_again: Request, model: ModelRepository) -> None:
    """A run that says "up to date" has looked at every byte."""
    path = model.path(1) / MODEL
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])
    outcome = attempt(request_again)
    assert published(outcome).version == 2


def test_a_change_that_changes_no_byte_of_the_model_is_trained_once(model: ModelRepository) -> None:
    """HISTORY remembers that a run of that fingerprint made version 1 once more; nothing else is changed by it."""
    assert find_made(model, "f00d") is None
    current, manifest = model.current(), model.manifest(1)
    with model.writing():
        model.note_repeat(1, "f00d")
    made = find_made(model, "f00d")
    assert made is not None
    assert made.version == 1
    with model.writing():  # what a writer recovers is nothing
        pass
    assert (model.current(), model.manifest(1), len(model.history.entries())) == (current, manifest, 2)


def refuse(model: ModelRepository, fingerprint: str) -> None:
    """Write a refusal to HISTORY."""
    entry = HistoryEntry(event="reject", fingerprint=fingerprint, reason="floor: 81 % is below 90 %")
    entry.time.GetCurrentTime()
    with (model.directory / HISTORY).open("ab") as file:
        file.write(to_json(entry, indent=None))


def test_a_candidate_that_was_refused_is_not_trained_every_night(model: ModelRepository) -> None:
    """The run says why it was refused."""
    refuse(model, "f00d")
    made = find_made(model, "f00d")
    assert made is not None
    assert made.version == 0
    assert made.reason.endswith("floor: 81 % is below 90 %")
    assert find_made(model, "beef") is None


def test_a_refused_first_candidate_is_not_trained_every_night_either(tmp_path: Path) -> None:
    """No version is current there, and none lacks."""
    model = ModelRepository(tmp_path / "digits")
    with model.writing():
        model.reject("floor: 81 % is below 90 %", "f00d")
    made = find_made(model, "f00d")
    assert made is not None
    assert made.version == 0


def test_a_refused_candidate_has_another_chance_beside_another_champion(
    request_again: Request, model: ModelRepository
) -> None:
    """After a publish, promote or rollback the gates might decide otherwise."""
    preset = write_preset(request_again.repository / "other.toml", epochs="1", seed="5")
    assert isinstance(attempt(replace(request_again, preset=str(preset))), Outcome)
    refuse(model, "f00d")
    rollback(model)
    assert find_made(model, "f00d") is None
    promote(model, 2)
    ended = attempt(request_again)
    assert isinstance(ended, Stopped)
    assert ended.reason.endswith("; version 2 stays current")
