"""The report of a version: what stands on its page, and that it is the truth."""

import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.check import DataSummary
from pipeline.config import load_preset
from pipeline.data.dataset import Dataset
from pipeline.data.split import load_split
from pipeline.evaluate import evaluate
from pipeline.export import export
from pipeline.gates.rules import parity
from pipeline.pages.figures import calibration, confusion_matrix, filters, training_curve
from pipeline.pages.page import Figure, Page, Section, Table, render
from pipeline.pages.report import report
from pipeline.pages.tables import classes, confusion_of, confusions, wilson
from pipeline.train import TrainingResult, train
from pipeline.training.checkpoint import load_checkpoint
from pipeline.verify import Verification, verify
from pipeline.versions.manifest import conclude, describe
from protos.artifact.v1.manifest_pb2 import Manifest, Verdict
from tests.pipeline.presets import with_training

PAGE_BYTES = 2_000_000
SECTIONS = (
    "Quality",
    "Gates, and the champion",
    "Classes",
    "Worst mistakes",
    "Calibration",
    "Training",
    "Parity of ONNX and PyTorch",
    "Provenance",
)


class Made:
    """A candidate on the small data set, described, with its report."""

    def __init__(self, folder: Path, dataset: Dataset, summary: DataSummary) -> None:
        cpu, preset = torch.device("cpu"), with_training(load_preset("default"), epochs=2)
        checkpoint, self.answers = folder / "checkpoint.pt", folder / "answers.npz"
        self.folder, self.dataset = folder, dataset
        self.training: TrainingResult = train(
            dataset, summary, preset, device=cpu, checkpoint=checkpoint, on_progress=lambda _: None
        )
        model = export(checkpoint, folder / "model.onnx", size=28)
        self.verification: Verification = verify(model, checkpoint, dataset, known_answers=folder / "known_answers.npz")
        self.validation = evaluate(checkpoint, dataset, split="validation", device=cpu)
        self.test = evaluate(checkpoint, dataset, split="test", device=cpu, answers=self.answers)
        description = describe("digits", preset, dataset, summary, self.training, self.validation, self.verification)
        self.description: Manifest = conclude(description, parity(self.verification), self.test)
        self.page = self.write(self.description)

    def write(self, description: Manifest, champion: Manifest | None = None, *, parent: int = 0) -> str:
        """The page of a report on this description."""
        given = (self.folder, description, self.dataset, self.training, self.verification)
        parent = champion.version if champion else parent
        return report(*given, answers=self.answers, parent_version=parent, champion=champion).read_text()


@pytest.fixture(scope="module")
def made(small_dataset: Dataset, small_summary: DataSummary, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """One candidate for all tests."""
    return Made(tmp_path_factory.mktemp("candidate"), small_dataset, small_summary)


def test_evaluate_keeps_what_the_classifier_said(made: Made, cpu: torch.device) -> None:
    """Probabilities and labels in the order of the test images, so that nothing is computed twice."""
    split = load_split(made.dataset, "test", cpu)
    with np.load(made.answers) as kept, torch.no_grad():
        expected = load_checkpoint(made.training.checkpoint, cpu).logits(split.images).softmax(dim=1)
        np.testing.assert_allclose(kept["probabilities"], expected.numpy(), atol=1e-5)
        assert kept["probabilities"].dtype == np.float32
        np.testing.assert_array_equal(kept["labels"], split.labels.numpy())


def test_the_verdict_comes_first_then_every_section(made: Made) -> None:
    """In the order in which a person asks."""
    places = [made.page.index(f"{100 * made.test.accuracy:.2f} %")]
    places += [made.page.index(f"<h2>{title}</h2>") for title in SECTIONS]
    assert places == sorted(places)
    assert 'class="verdict good"' in made.page


def described(made: Made, version: int = 0) -> Manifest:
    """The manifest of another version, which came of the same run."""
    description = Manifest()
    description.CopyFrom(made.description)
    description.version = version
    return description


def test_what_was_not_asked_has_not_passed(made: Made) -> None:
    """The first version has nothing to be compared with, and its verdict does not claim it."""
    description = described(made)
    description.verdicts.add(gate="champion", passed=True, detail="not compared: there is none", skipped=True)
    page = made.write(description)
    assert "no gate rejected it. Passed: parity on CPUExecutionProvider; skipped: champion." in page
    assert "<td>skipped</td>" in page


def test_the_page_says_which_images_decided(made: Made) -> None:
    """And when the test images were evaluated."""
    assert "evaluated once, when that was decided." in made.page


def test_the_champions_figures_stand_beside(made: Made) -> None:
    """On the same test images, accuracy and each class; the difference has its sign."""
    champion = described(made, version=3)
    champion.evaluation.accuracy -= 0.0125
    champion.evaluation.class_accuracies[9] += 0.02
    page = made.write(made.description, champion)
    ours, ninth = 100 * made.test.accuracy, 100 * made.test.class_accuracy[9]
    for row in (
        ("accuracy", f"{ours:.2f} %", f"{ours - 1.25:.2f} %", "+1.25"),
        ("recall of 9", f"{ninth:.2f} %", f"{ninth + 2:.2f} %", "-2.00"),
    ):
        assert re.search(r"\s*".join(f"<t[hd][^>]*>{re.escape(cell)}</t[hd]>" for cell in row), page), row


def test_a_champion_that_cannot_be_read_is_named_all_the_same(made: Made) -> None:
    """The version follows it, as its manifest says; there are no figures to show."""
    page = made.write(made.description, parent=3)
    assert "Champion: version 3" in page
    assert "Made to follow version 3" in page
    assert "difference, points" not in page


def test_a_champion_of_other_images_has_no_figures_beside(made: Made) -> None:
    """Two accuracies of two sets of images would compare nothing."""
    champion = described(made, version=3)
    champion.data.payload_sha256["t10k-labels-idx1-ubyte"] = "f00d"
    page = made.write(made.description, champion)
    assert "tested on other images" in page
    assert "difference, points" not in page


def test_a_forced_version_has_a_bad_verdict(made: Made) -> None:
    """It names the gate, and what the gate said stands below."""
    description = Manifest()
    description.CopyFrom(made.description)
    description.verdicts.append(Verdict(gate="champion", passed=False, detail="0.8 points worse than version 3"))
    page = made.write(description, described(made, version=3))
    assert 'class="verdict bad"' in page
    assert "rejected by: champion" in page
    assert "0.8 points worse than version 3" in page
    assert "Champion: version 3" in page


def test_it_needs_no_other_file_and_stays_small(made: Made) -> None:
    """No address but those that hold what they name, and the manifest beside it; no script."""
    addresses = re.findall(r'(?:src|srcset|href)="([^"]*)"', made.page)
    assert {address for address in addresses if not address.startswith("data:image/png;base64,")} == {
        "../manifest.json"
    }
    assert "<script" not in made.page
    assert len(made.page) < PAGE_BYTES


def test_the_figures_lie_beside_it(made: Made) -> None:
    """As PNG files, for whoever wants one, and on white, for whoever looks at them on a dark ground."""
    names = {path.name for path in (made.folder / "report").iterdir()}
    assert names == {"index.html", "training.png", "confusion.png", "calibration.png", "filters-1.png", "filters-2.png"}
    for name in names - {"index.html"}:
        picture = Image.open(made.folder / "report" / name)
        assert (picture.mode, picture.getpixel((0, 0))) == ("RGB", (255, 255, 255))


def test_the_worst_mistakes_are_the_most_confident_ones(made: Made) -> None:
    """25 pictures in order, each with its number, its label, the answer and what it was worth."""
    with np.load(made.answers) as kept:
        probabilities, labels = kept["probabilities"], kept["labels"]
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    worst = sorted(wrong, key=lambda index: -probabilities[index].max())[:25]
    assert re.findall(r"<div>image (\d+)</div>", made.page) == [str(index) for index in worst]
    first, answer = worst[0], probabilities[worst[0]].argmax()
    assert f"<div>label {labels[first]}: {100 * probabilities[first, labels[first]]:.2f} %</div>" in made.page
    assert f"<div>answer {answer}: {100 * probabilities[first, answer]:.2f} %</div>" in made.page


def test_parity_has_a_row_for_each_provider(made: Made) -> None:
    """And one for onnx.reference, the third opinion."""
    for who in ("onnx.reference", *made.verification.providers):
        assert f"<td>{who}</td>" in made.page


def test_provenance_names_data_code_and_config(made: Made) -> None:
    """Digests, revision, packages, seed, and every value of the preset."""
    told = (*made.dataset.sha256.values(), made.description.code_revision, *made.description.packages.values())
    for value in (*told, "training.learning_rate", made.training.device):
        assert value in made.page


def test_colour_names_and_other_sizes(made: Made, tmp_path: Path) -> None:
    """Nothing takes ten digits of 28 x 28 grey pixels for granted; a name's own signs are shown, not obeyed."""
    names = ["<b>cat</b>", "cost $5 or $6", "a name that is longer than most"]
    confusion = np.array([[5, 1, 0], [0, 4, 2], [0, 0, 0]])
    figures = [
        confusion_matrix(confusion, names),
        filters(np.random.default_rng(0).normal(size=(20, 3, 5, 5)), 1),
        confusion_matrix(np.eye(100, dtype=np.int64), [f"class {number}" for number in range(100)]),
    ]
    for figure in figures:
        for png in (figure.light, figure.dark):
            assert np.asarray(Image.open(BytesIO(png)))[..., 3].max() == 255  # something is drawn
    page = render(Page("<i>", "fine", is_good=True, sections=[Section("Names", [Table(("name",), [[names[0]]])])]))
    assert "&lt;b&gt;cat&lt;/b&gt;" in page
    assert "<i>" not in page


def test_a_class_without_images_has_no_share() -> None:
    """And a class without mistakes is taken for nothing else."""
    manifest = Manifest(labels=["a", "b"])
    manifest.evaluation.confusion.extend([3, 0, 0, 0])
    assert [list(row) for row in classes(manifest).rows] == [
        ["a", "3", "100.00 %", "100.00 %", "–"],
        ["b", "0", "–", "–", "–"],
    ]
    assert confusions(manifest).rows == []
    assert confusion_of(Manifest()).shape == (0, 0)


def test_the_interval_is_wilsons() -> None:
    """Worked by hand: 8 of 10, as the textbooks have it; and it never leaves [0, 1]."""
    assert wilson(0.8, 10) == pytest.approx((0.490, 0.943), abs=5e-4)
    assert wilson(1.0, 1)[1] == 1.0
    assert wilson(0.0, 1)[0] == 0.0


def drawn_twice(figure: Figure) -> bool:
    """Whether light and dark differ, and neither is empty."""
    light, dark = (np.asarray(Image.open(BytesIO(png))) for png in (figure.light, figure.dark))
    return light.shape == dark.shape and light.std() > 0 and bool((light != dark).any())


def test_figures_stand_what_training_can_give() -> None:
    """One step, a loss of zero, classifiers that are always sure, or never."""
    sure, unsure = np.eye(3)[[0, 1, 2, 2]], np.full((4, 3), 1 / 3)
    labels = np.array([0, 1, 2, 0])
    assert drawn_twice(training_curve([(1, 2.3)], [2.3]))
    assert drawn_twice(training_curve([(1, 2.3), (2, 0.0)], [1.0, 0.0]))
    assert drawn_twice(calibration(sure, labels, 0.25))
    assert drawn_twice(calibration(unsure, labels, 0.1))
    assert drawn_twice(filters(np.zeros((4, 1, 1, 1)), 2))
