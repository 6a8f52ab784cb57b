"""Candidates against champions: real files, the same images."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.compare import compare
from pipeline.config import Gates, load_preset
from pipeline.data.split import load_split
from pipeline.gates.verdict import Verdict
from tests.pipeline.candidates import Candidate, make_candidate
from tests.pipeline.presets import with_training
from tests.serving.looping import MODEL

GATES = Gates(floor=0.5, margin=0.03, class_margin=0.1, calibration=0.5, latency_ratio=10)  # for 630 images
COMPARED = ("champion", "classes", "size", "latency")


@pytest.fixture
def repository(candidate: Candidate, tmp_path: Path) -> Path:
    """The candidate, published: the champion of the others."""
    candidate.publish(tmp_path / "repository")
    return tmp_path / "repository"


@pytest.fixture
def ask(repository: Path) -> Callable[[Candidate], dict[str, Verdict]]:
    """The verdict of every gate."""
    return lambda candidate: verdicts(repository, candidate)


def verdicts(repository: Path, candidate: Candidate, gates: Gates = GATES) -> dict[str, Verdict]:
    """The verdict of every gate, by its name."""
    told = compare(repository, candidate.folder, candidate.description, candidate.dataset, candidate.validation, gates)
    return {verdict.gate: verdict for verdict in told}


def refusals(told: dict[str, Verdict]) -> set[str]:
    """The gates that refuse."""
    return {gate for gate, verdict in told.items() if not verdict.passed}


def test_a_first_version_has_nothing_to_be_compared_with(candidate: Candidate, tmp_path: Path) -> None:
    """The gates that need a champion pass and say so; no repository is made."""
    told = verdicts(tmp_path / "repository", candidate)
    assert not refusals(told)
    assert list(told) == ["floor", "calibration", *COMPARED]
    assert all(told[gate].detail == "not compared: no version is current yet" for gate in COMPARED)
    assert [gate for gate, verdict in told.items() if verdict.skipped] == list(COMPARED)
    assert not (tmp_path / "repository").exists()


def test_a_first_version_must_reach_the_floor(candidate: Candidate, tmp_path: Path) -> None:
    """It needs no champion for that."""
    assert refusals(verdicts(tmp_path, candidate, Gates(floor=0.999, calibration=0.5))) == {"floor"}


def test_the_same_file_passes(ask: Callable[[Candidate], dict[str, Verdict]], candidate: Candidate) -> None:
    """Even where there are too few images to prove anything."""
    told = ask(candidate)
    assert not refusals(told)
    assert "the same as that of version 1" in told["champion"].detail


def test_a_candidate_that_is_as_good_passes(
    ask: Callable[[Candidate], dict[str, Verdict]], candidate: Candidate, tmp_path: Path
) -> None:
    """Slightly other weights: nearly the same answers, and every figure in its sentence."""
    told = ask(candidate.spoilt(tmp_path / "other", by=0.001))
    assert not refusals(told)
    assert "on 622 images" in told["champion"].detail
    assert "1.00 times the champion's" in told["size"].detail
    assert "128 images take" in told["latency"].detail


@pytest.mark.parametrize(("fraction", "is_skipped"), [(0.0015, True), (0.02, False)], ids=["too few", "few"])
def test_identical_answers_pass_on_few_images(
    candidate: Candidate, tmp_path: Path, caplog: pytest.LogCaptureFixture, fraction: float, is_skipped: bool
) -> None:
    """Another file that answers alike: on very few images the gate is skipped, and the log warns."""
    few = replace(candidate, dataset=replace(candidate.dataset, validation_fraction=fraction))
    few.publish(tmp_path / "repository")
    told = verdicts(tmp_path / "repository", few.spoilt(tmp_path / "other", by=1e-7), Gates(floor=0.5, calibration=0.5))
    assert not refusals(told)
    assert told["champion"].skipped is is_skipped
    assert ("skipped gate champion: warning: " in caplog.text) is is_skipped


def test_a_worse_candidate_is_refused(
    ask: Callable[[Candidate], dict[str, Verdict]], candidate: Candidate, tmp_path: Path
) -> None:
    """Noise on its weights costs it many images."""
    assert "champion" in refusals(ask(candidate.spoilt(tmp_path / "worse", by=0.3)))


def test_a_candidate_that_gave_up_one_label_is_refused(repository: Path, candidate: Candidate, tmp_path: Path) -> None:
    """The label is named, also where the margin for all images is wide."""
    spoilt = candidate.spoilt(tmp_path / "worse", label=4, by=1.0)
    told = verdicts(repository, spoilt, GATES.model_copy(update={"margin": 0.5}))
    assert refusals(told) == {"classes"}
    assert "label 4 does worst" in told["classes"].detail


def test_a_better_candidate_passes(candidate: Candidate, tmp_path: Path) -> None:
    """The champion was the spoilt one."""
    candidate.spoilt(tmp_path / "worse", by=0.3).publish(tmp_path / "repository")
    assert not refusals(verdicts(tmp_path / "repository", candidate))


def test_a_candidate_that_grew_and_got_slower_is_refused(
    ask: Callable[[Candidate], dict[str, Verdict]], candidate: Candidate, tmp_path: Path
) -> None:
    """More layers, more features; its accuracy does not matter here."""
    preset = load_preset("default")
    network = preset.network.model_copy(update={"taps": (3, 3), "features": (1, 24, 48), "sizes": (28, 14, 7)})
    large = make_candidate(
        candidate.dataset,
        with_training(preset.model_copy(update={"network": network}), epochs=1, learning_rate=0.005),
        tmp_path / "large",
    )
    assert {"size", "latency"} <= refusals(ask(large))


@pytest.mark.parametrize("what", ["labels", "size"])
def test_a_version_with_another_task_is_no_champion(
    ask: Callable[[Candidate], dict[str, Verdict]], candidate: Candidate, what: str
) -> None:
    """Its answers mean something else."""
    description = type(candidate.description)()
    description.CopyFrom(candidate.description)
    if what == "labels":
        description.labels[0] = "zero"
    else:
        description.signature.inputs[0].shape[1] = 32
    told = ask(replace(candidate, description=description))
    assert not refusals(told)
    assert "another task" in told["champion"].detail


def test_only_images_that_neither_was_trained_on_compare(candidate: Candidate, tmp_path: Path) -> None:
    """The champion validated on fewer: the others were its training images."""
    fewer = replace(candidate.dataset, validation_fraction=0.05)
    description = type(candidate.description)()
    description.CopyFrom(candidate.description)
    description.config.fields["data"].struct_value.fields["validation_fraction"].number_value = 0.05
    replace(candidate.spoilt(tmp_path / "other", by=0.001), description=description).publish(tmp_path / "repository")
    told = verdicts(tmp_path / "repository", candidate, GATES.model_copy(update={"margin": 0.5}))
    count = len(load_split(fewer, "validation", torch.device("cpu")).labels)
    assert 0 < count < 300
    assert f"on {count} images" in told["champion"].detail


def test_a_champion_that_was_trained_on_everything_is_none(candidate: Candidate, tmp_path: Path) -> None:
    """It knows every image by heart; versions of before there was validation are such."""
    description = type(candidate.description)()
    description.CopyFrom(candidate.description)
    del description.config.fields["data"]
    replace(candidate, description=description).publish(tmp_path / "repository")
    told = verdicts(tmp_path / "repository", candidate)
    assert not refusals(told)
    assert "trained on every image" in told["champion"].detail


def rot(path: Path, content: bytes) -> None:
    """Overwrite a published file."""
    path.chmod(0o644)
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_a_champion_that_is_damaged_keeps_nobody_out(
    repository: Path, candidate: Candidate, tmp_path: Path, name: str
) -> None:
    """The absolute gates decide, and the verdict says what is wrong with the champion."""
    rot(repository / "digits" / "1" / name, b"rotten")
    told = verdicts(repository, candidate.spoilt(tmp_path / "other", by=0.001))
    assert not refusals(told)
    assert "version 1" in told["champion"].detail


def test_a_champion_that_cannot_be_run_keeps_nobody_out(candidate: Candidate, tmp_path: Path) -> None:
    """Whole, by its hashes, and yet no model."""
    broken = candidate.spoilt(tmp_path / "broken", by=0.001)
    (broken.folder / "model.onnx").write_bytes(b"no model")
    broken.publish(tmp_path / "repository")
    told = verdicts(tmp_path / "repository", candidate)
    assert not refusals(told)
    assert "version 1 cannot be run: " in told["champion"].detail


def test_a_champion_that_is_gone_keeps_nobody_out(repository: Path, candidate: Candidate) -> None:
    """CURRENT names a version directory that somebody removed."""
    (repository / "digits" / "1").rename(repository / "digits" / "gone")
    told = verdicts(repository, candidate)
    assert not refusals(told)
    assert "version 1 cannot be loaded" in told["champion"].detail


@pytest.mark.parametrize("name", ["model.onnx", "known_answers.npz", "features.onnx", "manifest.json"])
@pytest.mark.parametrize("way", ["changed", "removed"])
def test_a_champion_that_was_tampered_with_is_none(
    repository: Path, candidate: Candidate, tmp_path: Path, name: str, way: str
) -> None:
    """A byte of a file, or a label in the manifest: no candidate is compared with it, and the verdict says so."""
    path = repository / "digits" / "1" / name
    content = path.read_bytes()
    path.unlink()
    if way == "changed":
        path.write_bytes(
            content.replace(b'"floor"', b'"flour"')
            if name == "manifest.json"
            else bytes([content[0] ^ 1]) + content[1:]
        )
    told = verdicts(repository, candidate.spoilt(tmp_path / "other", by=0.001))
    assert all(told[gate].skipped for gate in COMPARED)
    is_gone = (name, way) == ("manifest.json", "removed")
    reason = "cannot be loaded: " if is_gone else "is not what was published: a file is missing or was changed"
    assert f"version 1 {reason}" in told["champion"].detail


def test_a_champion_whose_graph_loops_keeps_nobody_out(candidate: Candidate, tmp_path: Path) -> None:
    """The run is ended after the limit, and the verdict says why nothing was compared."""
    looping = candidate.spoilt(tmp_path / "looping", by=0.001)
    (looping.folder / "model.onnx").write_bytes(MODEL)
    looping.publish(tmp_path / "repository")
    given = (candidate.folder, candidate.description, candidate.dataset, candidate.validation, GATES)
    told = {verdict.gate: verdict for verdict in compare(tmp_path / "repository", *given, limit_s=2.0)}
    assert all(told[gate].skipped for gate in COMPARED)
    assert "version 1 cannot be run: 622 images take longer than 2 s" in told["champion"].detail
