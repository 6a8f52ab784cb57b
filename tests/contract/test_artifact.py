"""The version directory: what the pipeline publishes is what serving loads, and what the tests' copies hold."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pipeline.publish
import pipeline.versions.repository
from pipeline.data.dataset import FILE_NAMES, LABELS, Dataset, read_file
from pipeline.outcome import Outcome
from pipeline.request import Request
from pipeline.run import run
from serving.provider import CPU
from serving.session import Session
from serving.versions.manifest import parse_current, read_version
from tests.outcomes import ended, evaluated, published
from tests.pipeline.idx_files import write_folder
from tests.pipeline.presets import write_preset
from tests.programs import ROOT

COPIES = ROOT / "tests" / "serving" / "versions"


@pytest.fixture(scope="module")
def outcome(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A run on a small part of MNIST."""
    folder = tmp_path_factory.mktemp("run")
    preset = write_preset(folder / "short.toml", epochs="1")
    return ended(run(Request(repository=folder / "repository", preset=str(preset), device="cpu", dataset=small_folder)))


def keys(value: Any) -> Any:
    """The names of every field, nested; the first element stands for a list."""
    if isinstance(value, dict):
        return {name: keys(inner) for name, inner in value.items()}
    return [keys(inner) for inner in value[:1]] if isinstance(value, list) else type(value).__name__


def test_serving_loads_what_the_pipeline_published(outcome: Outcome) -> None:
    """Hashes, signature and known answers hold on the other side of the contract."""
    model = published(outcome).path.parent
    version = read_version(model, parse_current((model / "CURRENT").read_bytes()))
    Session(version, provider=CPU, threads=1).check_known_answers(version.known_answers)


def test_serving_looks_into_what_the_pipeline_published(outcome: Outcome) -> None:
    """The feature maps of the network that was trained, layer by layer."""
    model = published(outcome).path.parent
    version = read_version(model, parse_current((model / "CURRENT").read_bytes()))
    layers = Session(version, provider=CPU, threads=1).features.look(version.known_answers.images[:1])
    assert [layer.name for layer in layers] == ["convolution 1", "pooling 1", "convolution 2", "pooling 2"]


@pytest.mark.parametrize("version", ["1", "2", "3", "4"])
def test_the_copies_that_servings_tests_serve_are_like_todays(outcome: Outcome, version: str) -> None:
    """The files that serving reads, the same fields: else `python -m tests.serving.make_versions` makes them anew."""
    copy, pages = COPIES / version, {pipeline.versions.repository.REPORT, pipeline.versions.repository.CARD}
    made = published(outcome).path
    assert {path.name for path in copy.iterdir()} == {path.name for path in made.iterdir()} - pages
    theirs, ours = (json.loads((path / "manifest.json").read_text()) for path in (copy, made))
    theirs["data"]["payload_sha256"].pop("labels.txt", None)  # version 4's classes have names
    assert keys(theirs) == keys(ours)


def test_the_manifest_tells_how_the_version_came_to_be(outcome: Outcome) -> None:
    """Config, data, code, packages, quality and the verdicts of the gates."""
    manifest = json.loads((published(outcome).path / "manifest.json").read_text())
    assert manifest["schema"] == "artifact/v1"
    assert manifest["config"]["training"]["epochs"] == 1
    assert manifest["evaluation"]["accuracy"] == evaluated(outcome).accuracy
    assert manifest["validation"]["accuracy"] == outcome.validation.accuracy
    assert manifest["data"]["train_count"] + manifest["data"]["validation_count"] == 4000
    assert len(manifest["data"]["payload_sha256"]) == 4
    assert {"torch", "onnx", "numpy"} <= set(manifest["packages"])
    assert manifest["verdicts"][0]["passed"] is True
    assert sum(manifest["evaluation"]["confusion"]) == 1000


def test_triton_would_find_the_model_where_it_looks(outcome: Outcome) -> None:
    """`<repository>/<model>/<version>/model.onnx`, numbers for versions, hidden names for the rest."""
    path = published(outcome).path
    assert (path / "model.onnx").is_file()
    assert (path.name, path.parent.name) == ("1", "digits")


def test_a_small_data_set_makes_a_version_that_serving_loads(small_dataset: Dataset, tmp_path: Path) -> None:
    """Fewer test images than known answers are usually kept."""
    arrays = {name: read_file(small_dataset, name) for name in FILE_NAMES}
    labels = arrays[LABELS["test"]]
    kept = np.concatenate([np.flatnonzero(labels == label)[:3] for label in range(10)])
    few = {name: array[:400] if name.startswith("train") else array[kept] for name, array in arrays.items()}
    folder = write_folder(tmp_path / "data", few)
    preset = str(write_preset(tmp_path / "preset.toml"))
    outcome = run(Request(repository=tmp_path / "repository", preset=preset, device="cpu", dataset=folder))
    model = published(outcome).path.parent
    version = read_version(model, parse_current((model / "CURRENT").read_bytes()))
    Session(version, provider=CPU, threads=1).check_known_answers(version.known_answers)
