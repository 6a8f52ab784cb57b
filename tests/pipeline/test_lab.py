"""The lab's page shows what was computed, and its pictures are what the equations say."""

import json
import re
import statistics
import subprocess
import sys
from dataclasses import replace
from html import unescape
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.__main__ import main
from pipeline.check import DataSummary
from pipeline.config import load_preset
from pipeline.data.dataset import Dataset
from pipeline.data.split import Split, load_split
from pipeline.errors import ConfigError
from pipeline.fetch import fetch
from pipeline.lab.pictures import apply_filters, pool_digits
from pipeline.lab.reproduce import Reproduction, reproduce
from pipeline.pages.lab import judge, lab_page, twins_section
from pipeline.pages.page import Page, write_page
from pipeline.train import Progress, train
from tests.browser import PHONE_WIDTH, measure, needs_chromium, screenshot
from tests.pipeline.presets import with_training
from tests.programs import ROOT

CPU = torch.device("cpu")
PRESET = with_training(load_preset("lab"), epochs=2)
FILTERS = np.array([[[1] * 3] * 3, [[-1, 0, 1]] * 3, [[-1] * 3, [0] * 3, [1] * 3]])  # equation (6), as printed
HAND = DataSummary(1, 0, 1, 4, 4, 1, (1,), (0.0,), (1.0,), mean=0.0, std=1.0)


@pytest.fixture(scope="module")
def whole(small_folder: Path) -> Dataset:
    """The small data set, all of whose training images train."""
    return fetch(small_folder, download=False, cache=small_folder)


@pytest.fixture(scope="module")
def told() -> list[Progress]:
    """What the lab said of its progress."""
    return []


@pytest.fixture(scope="module")
def lab(whole: Dataset, told: list[Progress]) -> Reproduction:
    """The lab on the small data set: two seeds, two epochs each."""
    return reproduce(whole, PRESET, seeds=(3, 5), device=CPU, on_progress=told.append, twin_rounds=2)


@pytest.fixture(scope="module")
def page(lab: Reproduction) -> Page:
    """Its page."""
    return lab_page(lab, "python -m pipeline lab --seeds 2")


@pytest.fixture(scope="module")
def folder(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page on disk."""
    return write_page(page, tmp_path_factory.mktemp("lab")).parent


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    """The page's HTML, without its pictures."""
    return unescape(re.sub(r"data:image/png;base64,[\w+/=]+", "PICTURE", (folder / "index.html").read_text()))


def of_class(split: Split, digit: int) -> NDArray[np.float64]:
    """The first three images of a digit, in [0, 1]."""
    images: NDArray[np.float64] = split.images[split.labels == digit][:3].numpy() / 255
    return images


def test_the_page_needs_no_other_file(text: str) -> None:
    """Every picture is inside, and nothing is asked of a network or a neighbour."""
    assert set(re.findall(r'\b(?:src|srcset|href)="([^"]*)"', text)) == {"PICTURE"}
    for word in ("http:", "https:", "url(", "@import", "<script", "<link"):
        assert word not in text


def test_every_figure_has_a_picture_and_a_sentence(page: Page, folder: Path, text: str) -> None:
    """A PNG lies beside the page for each, a second one for the dark, and its caption says what is seen."""
    assert {path.stem for path in folder.glob("*.png")} == {figure.name for figure in page.figures}
    assert len(page.figures) == 7
    for figure in page.figures:
        assert f"<figcaption>{figure.caption}</figcaption>" in text
        assert figure.caption.endswith(".")
        assert len(figure.caption) > 80
        for png in (figure.light, figure.dark, (folder / f"{figure.name}.png").read_bytes()):
            with Image.open(BytesIO(png)) as image:
                assert min(image.size) > 200
                assert len(image.convert("RGBA").getcolors(2**20) or []) > 10


def test_every_task_has_its_section(page: Page) -> None:
    """In the notebook's order, after the data and before the departures and how the page was made."""
    titles = [section.title.split(":")[0] for section in page.sections]
    assert titles[1:6] == [f"Task {number}" for number in range(1, 6)]
    assert titles[6:] == ["Where this departs from the notebook", "How this page was made"]


def test_the_accuracies_are_those_of_the_trainings(lab: Reproduction, text: str) -> None:
    """A row a seed, then mean and sample standard deviation, then the notebook's."""
    evaluations = [trial.evaluation for trial in lab.trials]
    accuracies = np.array([100 * evaluation.accuracy for evaluation in evaluations])
    rows = [
        [
            str(trial.seed),
            f"{it.train_loss:.3f}",
            f"{it.loss:.3f}",
            f"{100 * it.error_rate:.2f}",
            f"{100 * it.accuracy:.2f}",
        ]
        for trial, it in zip(lab.trials, evaluations, strict=True)
    ]
    for row in (*rows, ["notebook", "–", "–", "19.14", "80.86"]):
        assert "".join(f"<td>{cell}</td>" for cell in row) in text
    for label, value in (("mean", accuracies.mean()), ("sd", accuracies.std(ddof=1))):
        assert re.search(rf"<td>{label}</td>(<td>[\d.]+</td>){{3}}<td>{value:.2f}</td>", text)


def test_the_verdict_is_computed(lab: Reproduction, page: Page) -> None:
    """Two seeds on a small part of MNIST are far from the notebook; around 80.86 % they would not be."""
    first, second = lab.trials
    near = tuple(
        replace(trial, evaluation=replace(trial.evaluation, accuracy=accuracy))
        for trial, accuracy in ((first, 0.79), (second, 0.82))
    )
    mean = statistics.mean(100 * trial.evaluation.accuracy for trial in lab.trials)
    assert not page.is_good
    assert (
        f"does not come out again: it was right on 80.86 % of the test images; here it is {mean:.2f} %" in page.verdict
    )
    verdict, is_good = judge(replace(lab, trials=near))
    assert is_good
    assert "comes out again: it was right on 80.86 % of the test images; here it is 80.50 %" in verdict
    assert verdict.endswith("(sd 2.12, 79.00 to 82.00 %), 0.36 points away.")


def test_a_trial_is_an_ordinary_training(lab: Reproduction, whole: Dataset, tmp_path: Path) -> None:
    """With the same seed `train` takes the same steps, and the last look at the test images is the evaluation."""
    alone = train(
        whole, lab.summary, with_training(PRESET, seed=5), device=CPU, checkpoint=tmp_path / "5.pt", on_progress=print
    )
    trial = lab.trials[1]
    losses = np.array(trial.losses)
    assert losses.shape == (2, 32)  # 4,000 images in batches of 128
    assert losses.mean(axis=1) == pytest.approx(alone.epoch_losses)
    assert trial.epoch_accuracies[-1] == pytest.approx(trial.evaluation.accuracy)
    assert trial.evaluation.image_count == 1000


def test_the_losses_stand_beside_the_notebooks(lab: Reproduction, text: str) -> None:
    """At the first step of each epoch, the one of the notebook's steps that so small a data set has."""
    ours = np.array([trial.losses for trial in lab.trials]).mean(axis=0)[:, 0]
    row = f"<td>8.802\N{NO-BREAK SPACE}·\N{NO-BREAK SPACE}{ours[0]:.3f}</td>"
    row += f"<td>1.243\N{NO-BREAK SPACE}·\N{NO-BREAK SPACE}{ours[1]:.3f}</td>"
    assert f"<td>1</td>{row}" in text


def test_progress_is_that_of_all_trainings(lab: Reproduction, told: list[Progress]) -> None:
    """Steps and epochs count on from one training to the next, to the end."""
    assert lab.trials
    steps = [progress.step for progress in told]
    assert steps == sorted(steps)
    assert (told[-1].step, told[-1].steps) == (128, 128)
    assert (told[-1].epoch, told[-1].epochs) == (4, 4)


def test_both_ways_are_equal_and_timed(lab: Reproduction, text: str) -> None:
    """Convolution, pooling and both differ by rounding; their times and ratios are on the page."""
    assert [twins.what for twins in lab.twins] == ["convolution", "pooling", "pooled CNN"]
    for twins in lab.twins:
        assert twins.difference < 1e-11
        assert twins.difference_float32 < 1e-3
        for times in (twins.forward, twins.both):
            row = (f"{times.lab_ms:.2f}", f"{times.torch_ms:.2f}", f"{times.lab_ms / times.torch_ms:.1f}")
            assert "".join(f"<td>{cell}</td>" for cell in row) in text
    assert "They compute the same" in text


def test_ways_that_differ_are_told(lab: Reproduction) -> None:
    """A difference in the fourth digit is no rounding: the page says so and is not good."""
    wrong = replace(lab, twins=tuple(replace(twins, difference=1e-4) for twins in lab.twins))
    assert not judge(wrong)[1]
    assert any(
        "They do NOT compute the same" in block for block in twins_section(wrong).blocks if isinstance(block, str)
    )


def test_filters_worked_by_hand() -> None:
    """A bright column among dark ones: its sides are where H^{f2} answers, its ends where H^{f3} does."""
    images = torch.zeros(1, 4, 4, dtype=torch.uint8)
    images[0, :, 1] = 255
    filtered = apply_filters(Split(images, torch.tensor([4])), HAND)
    box, sideways, downwards = filtered.responses[0]
    assert box.tolist() == [[2, 2, 2, 0], [3, 3, 3, 0], [3, 3, 3, 0], [2, 2, 2, 0]]
    assert sideways.tolist() == [[2, 0, -2, 0], [3, 0, -3, 0], [3, 0, -3, 0], [2, 0, -2, 0]]
    assert downwards.tolist() == [[1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [-1, -1, -1, 0]]
    assert filtered.features[0, 1].tolist() == [[2, 0, 0, 0], [3, 0, 0, 0], [3, 0, 0, 0], [2, 0, 0, 0]]
    assert filtered.code_feature[0].tolist() == [[0, 0, 2, 0], [0, 0, 3, 0], [0, 0, 3, 0], [0, 0, 2, 0]]


def test_filters_equal_numpy(lab: Reproduction, whole: Dataset) -> None:
    """On the digits shown, every pixel of every map is the sum that equation (3) writes, and σ cuts at 0."""
    images = (of_class(load_split(whole, "train", CPU), 4) - lab.summary.mean) / lab.summary.std
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))  # (image, row, column, 3, 3)
    expected = np.einsum("imnuv,fuv->ifmn", windows, FILTERS)
    np.testing.assert_allclose(lab.filtered.responses, expected, atol=1e-4)
    np.testing.assert_allclose(lab.filtered.features, expected.clip(min=0), atol=1e-4)
    np.testing.assert_allclose(lab.filtered.code_feature, (-expected[:, 1]).clip(min=0), atol=1e-4)


def test_pooling_worked_by_hand() -> None:
    """Of 1, 0, 0 and 0 the mean is a quarter, and the largest 1."""
    images = torch.zeros(1, 4, 4, dtype=torch.uint8)
    images[0, 0, 1] = 255
    halves, quarters = pool_digits(Split(images, torch.tensor([4])))
    assert (halves.window, quarters.window) == (2, 4)
    assert halves.average.tolist() == [[[0.25, 0], [0, 0]]]
    assert halves.largest.tolist() == [[[1, 0], [0, 0]]]
    assert quarters.average.tolist() == [[[0.0625]]]
    assert quarters.largest.tolist() == [[[1]]]


def test_captions_have_the_numbers_of_the_data(lab: Reproduction, page: Page, whole: Dataset) -> None:
    """The ink of the classes, the mean grey after pooling, the first losses."""
    captions = {figure.name: figure.caption for figure in page.figures}
    split = load_split(whole, "train", CPU)
    ink = [100 * split.images[split.labels == label].numpy().mean() / 255 for label in range(10)]
    assert f"the {np.argmax(ink)} carries most ink, {max(ink):.1f} %" in captions["samples"]
    images = of_class(split, 4)
    largest = images.reshape(3, 14, 2, 14, 2).max(axis=(2, 4)).mean()
    assert f"Δ = 2: {images.mean():.3f} and {largest:.3f}" in captions["task-3-pooling"]
    first = [trial.losses[0][0] for trial in lab.trials]
    assert f"starts at {statistics.mean(first):.1f} ({min(first):.1f} to {max(first):.1f}" in captions["task-5-loss"]


def test_how_it_was_made_is_on_the_page(lab: Reproduction, text: str) -> None:
    """Command, date, device, seeds, versions, revision and the digests of the data."""
    told = ["python -m pipeline lab --seeds 2", lab.origin.created, lab.origin.device, "3, 5", lab.origin.revision]
    told += [f"torch {torch.__version__.partition('+')[0]}", f"numpy {np.__version__}", *lab.dataset.sha256.values()]
    for value in told:
        assert value in text


def test_one_training_is_refused(whole: Dataset) -> None:
    """It has no spread to compare the notebook with."""
    with pytest.raises(ConfigError, match="1 training has no spread to compare with; expected at least 2 seeds"):
        reproduce(whole, PRESET, seeds=(0,), device=CPU)


@pytest.mark.parametrize("count", ["1", "-3", "many"])
def test_a_wrong_number_of_seeds_is_wrong_usage(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, and what was expected."""
    with pytest.raises(SystemExit, match="2"):
        main(["lab", f"--seeds={count}"])
    assert "expected a number of at least 2" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(1800)
@needs_chromium
def test_a_person_runs_it_and_opens_the_page(tmp_path: Path) -> None:
    """The command trains on all of MNIST and prints where the page is; it shows on a desk, in the dark, on a phone."""
    command = [sys.executable, "-m", "pipeline", "lab", "--seeds", "2", "--json", "--output", str(tmp_path / "lab")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert all(0.7 < accuracy < 0.9 for accuracy in told["accuracies"])
    page = Path(told["page"])
    grounds = []
    for is_dark in (False, True):
        picture = tmp_path / f"{is_dark}.png"
        screenshot(page, picture, width=1100, height=4000, is_dark=is_dark)
        with Image.open(picture) as image:
            assert image.size == (1100, 4000)
            assert len(image.getcolors(2**20) or []) > 100, "the page is blank"
            grounds.append(sum(image.convert("RGB").getpixel((2, 2))))  # type: ignore[arg-type]
    assert grounds[1] < 150 < 600 < grounds[0]
    assert measure(page, tmp_path, width=PHONE_WIDTH).page <= PHONE_WIDTH
