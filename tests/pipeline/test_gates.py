"""Each gate alone: figures in, a verdict with the figures in it out."""

from dataclasses import replace

import pytest

from pipeline.config import Gates
from pipeline.evaluate import Evaluation
from pipeline.gates import rules
from pipeline.gates.paired import Pairs
from pipeline.gates.verdict import Verdict, first_refusal

GATES = Gates()
LABELS = [str(label) for label in range(10)]
EVEN = [Pairs(900, 5, 5)] * 10


@pytest.fixture
def validation() -> Evaluation:
    """A good candidate's quality."""
    return Evaluation(
        train_loss=0.03,
        loss=0.04,
        accuracy=0.988,
        error_rate=0.012,
        class_accuracy=(0.988,) * 10,
        confusion=((0,) * 10,) * 10,
        calibration_error=0.003,
        image_count=9000,
        split="validation",
    )


@pytest.mark.parametrize(("accuracy", "passed"), [(0.9, True), (0.8999, False)], ids=["at the floor", "below it"])
def test_the_floor(validation: Evaluation, accuracy: float, passed: bool) -> None:
    """Both figures stand in the sentence."""
    verdict = rules.floor(replace(validation, accuracy=accuracy), GATES)
    assert verdict.passed is passed
    assert f"{100 * accuracy:.2f} % of 9000" in verdict.detail
    assert "at least 90.00 %" in verdict.detail


@pytest.mark.parametrize(("error", "passed"), [(0.05, True), (0.0501, False), (float("nan"), False)], ids=str)
def test_calibration(validation: Evaluation, error: float, passed: bool) -> None:
    """Probabilities that promise too much are refused, however many answers are right."""
    assert rules.calibration(replace(validation, calibration_error=error), GATES).passed is passed


@pytest.mark.parametrize(
    ("losses", "wins", "passed"),
    [
        (0, 0, True),
        (50, 54, True),
        (20, 20, True),
        (58, 50, True),
        (60, 50, False),
        (20, 5, True),
        (27, 0, False),
        (140, 140, False),
    ],
    ids=str,
)
def test_the_champion(losses: int, wins: int, passed: bool) -> None:
    """What may be 0.3 points worse is refused, also where it is as good so far but differs too much to tell."""
    verdict = rules.champion(Pairs(9000, losses, wins), 3, GATES)
    assert verdict.passed is passed
    assert f"{losses} are lost to version 3 and {wins} won" in verdict.detail


def test_the_interval_stands_in_the_sentence() -> None:
    """A person sees what was proved."""
    detail = rules.champion(Pairs(9000, 58, 50), 3, GATES).detail
    assert "a difference of -0.09 points (equal models lose that many or more with probability 0.25" in detail
    assert "with 95 % confidence it is above -0.28 (and below +0.10), expected above -0.30" in detail


def test_a_margin_that_so_few_images_cannot_prove_is_said() -> None:
    """Else a person would look for the fault in the candidate."""
    assert "raise gates.margin" in rules.champion(Pairs(600, 0, 0), 3, GATES).detail
    assert "raise gates.margin" not in rules.champion(Pairs(9000, 99, 0), 3, GATES).detail


@pytest.mark.parametrize(
    ("pairs", "passed"),
    [
        (Pairs(900, 5, 5), True),
        (Pairs(900, 25, 8), True),  # 1.9 points
        (Pairs(900, 40, 10), False),  # 3.3 points
        (Pairs(30, 2, 0), True),  # 6.7 points, by chance one time in four
        (Pairs(30, 9, 0), False),
        (Pairs(0, 0, 0), True),
    ],
    ids=["even", "little", "much", "few images", "few images, much", "no image"],
)
def test_one_label(pairs: Pairs, passed: bool) -> None:
    """A label that falls behind is refused and named; what may be chance is not."""
    verdict = rules.classes([*EVEN[:7], pairs, *EVEN[8:]], LABELS, GATES)
    assert verdict.passed is passed
    if not passed:
        assert "label 7 does worst" in verdict.detail


def test_the_label_that_refuses_is_the_one_that_is_named() -> None:
    """Not another one that looks worse but may be chance."""
    verdict = rules.classes([Pairs(10, 2, 0), Pairs(900, 60, 2), *EVEN[2:]], LABELS, GATES)
    assert not verdict.passed
    assert "label 1 does worst" in verdict.detail


@pytest.mark.parametrize(("size", "passed"), [(2000, True), (2001, False)], ids=["twice", "more than twice"])
def test_size(size: int, passed: bool) -> None:
    """Compared with the champion's file."""
    verdict = rules.size(size, 1000, GATES)
    assert verdict.passed is passed
    assert f"{size} bytes" in verdict.detail


@pytest.mark.parametrize(("seconds", "passed"), [(0.002, True), (0.0021, False)], ids=["twice", "more than twice"])
def test_latency(seconds: float, passed: bool) -> None:
    """Compared with the champion's time."""
    assert rules.latency(seconds, 0.001, 128, GATES).passed is passed


def test_the_first_refusal_decides() -> None:
    """The order is that of the run."""
    passed, first, second = Verdict("a", True, ""), Verdict("b", False, "why"), Verdict("c", False, "")
    assert first_refusal((passed, first, second)) == first
    assert first_refusal((passed,)) is None
    assert str(first) == "b: why"
