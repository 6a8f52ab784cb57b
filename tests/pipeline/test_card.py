"""The model card, made of a manifest alone."""

import re
from pathlib import Path

import pytest
import yaml  # prefect brings it, without types

from pipeline.versions.card import card
from pipeline.versions.repository import ModelRepository
from protos.artifact.v1.manifest_pb2 import Manifest
from tests.pipeline.test_publish import publish_text
from tests.programs import ROOT

HEADINGS = [
    "Model details",
    "Intended use",
    "Factors",
    "Metrics",
    "Evaluation data",
    "Training data",
    "Quantitative analyses",
    "Ethical considerations",
    "Caveats and recommendations",
]


@pytest.fixture
def manifest() -> Manifest:
    """That of a real version."""
    return ModelRepository(ROOT / "tests" / "serving" / "versions").manifest(1)


def test_it_has_the_headings_of_mitchell_et_al(manifest: Manifest) -> None:
    """All nine, in their order."""
    assert re.findall(r"^## (.+)$", card(manifest), re.MULTILINE) == HEADINGS


def test_the_front_matter_is_what_hugging_face_reads(manifest: Manifest) -> None:
    """YAML between two lines of dashes: task, library, tags, data sets and the measured accuracy."""
    _, front, _ = card(manifest).split("---\n", 2)
    told = yaml.safe_load(front)
    assert told["pipeline_tag"] == "image-classification"
    assert told["library_name"] == "onnx"
    assert told["datasets"] == [manifest.data.name]
    (result,) = told["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == manifest.evaluation.accuracy


def test_it_gives_every_class_its_figures(manifest: Manifest) -> None:
    """A row for each label, with its recall."""
    text = card(manifest)
    for label, recall in zip(manifest.labels, manifest.evaluation.class_accuracies, strict=True):
        assert re.search(rf"^\| {label} \| \d+ \| {100 * recall:.2f} % \|", text, re.MULTILINE)


def test_the_card_of_a_version_can_be_made_again(tmp_path: Path) -> None:
    """From its manifest.json, byte by byte."""
    publication = publish_text(tmp_path / "repository", "one")
    model = ModelRepository(publication.path.parent)
    published = (publication.path / "README.md").read_text()
    assert published == card(model.manifest(1))
    assert "version 1" in published


def test_a_name_does_not_break_the_tables(manifest: Manifest) -> None:
    """Bars, brackets and line ends in a label are text."""
    manifest.labels[0] = "a|b\n<img>"
    row = next(line for line in card(manifest).splitlines() if line.startswith(r"| a\|b \<img\> |"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 6


def test_a_forced_version_says_so_at_once(manifest: Manifest) -> None:
    """In the first sentence."""
    manifest.forced = True
    assert "Published by a person's decision although a gate refused it." in card(manifest).split("## ")[0]


def test_an_empty_manifest_has_a_card() -> None:
    """Of an earlier program, say: what is not known is not made up."""
    text = card(Manifest(model_name="digits", version=1))
    assert "an unknown device" in text
    assert "None." in text
