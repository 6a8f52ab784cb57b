"""Each gate alone: figures in, a verdict with the figures in it out."""

from dataclasses import replace

import pytest

from pipeline.config import Gates
from pipeline.evaluate import Evaluation
from pipeline.gates import rules
from pipeline.gates.paired import Pairs
from pipeline.gates.verdict import Verdict, first_refusal, ruling
from protos.artifact.v1 import manifest_pb2

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
    """Probabilities that promise too much are rejected, however many answers are right."""
    assert rules.calibration(replace(validation, calibration_error=error), GATES).passed is passed


@pytest.mark.parametrize(
    ("error", "passed"), [(0.08, True), (0.0801, False)], ids=["what chance explains", "more than chance explains"]
)
def test_calibration_on_few_images(validation: Evaluation, error: float, passed: bool) -> None:
    """A perfectly calibrated candidate is not rejected for the noise of few images, and the sentence says so."""
    few = replace(validation, image_count=45, calibration_error=error, calibration_noise=0.08)
    verdict = rules.calibration(few, GATES)
    assert verdict.passed is passed
    assert "required at most 8.00 %. 45 images cannot prove the preset's 5.00 % (about 120 could)" in verdict.detail


@pytest.mark.parametrize(
    ("regressions", "improvements", "passed"),
    [
        (0, 0, True),
        (50, 54, True),
        (20, 20, True),
        (58, 50, True),
        (60, 50, False),
        (20, 5, True),
        (27, 0, False),
        (140, 140, True),
        (160, 130, False),
    ],
    ids=str,
)
def test_the_champion(regressions: int, improvements: int, passed: bool) -> None:
    """What may be 0.3 points worse is rejected, unless candidates that differ so much could not prove that if equal."""
    verdict = rules.champion(Pairs(9000, regressions, improvements), 3, GATES)
    assert verdict.passed is passed
    assert f"{regressions} regress and {improvements} improve against version 3" in verdict.detail


def test_the_bound_and_the_margin_stand_in_the_sentence() -> None:
    """A person sees what was proved and what was required."""
    assert rules.champion(Pairs(9000, 58, 50), 3, GATES).detail == (
        "on 9000 images 58 regress and 50 improve against version 3, -0.09 points; with 95 % confidence the difference "
        "is above -0.28, required at least -0.30"
    )


@pytest.mark.parametrize(
    ("pairs", "passed"),
    [
        (Pairs(90, 0, 0), True),
        (Pairs(90, 1, 0), True),
        (Pairs(90, 2, 0), True),
        (Pairs(90, 3, 0), False),
        (Pairs(90, 3, 1), True),
        (Pairs(90, 8, 2), False),
        (Pairs(25, 25, 0), False),
        (Pairs(900, 0, 0), True),
        (Pairs(900, 6, 4), True),
        (Pairs(900, 8, 2), False),
    ],
    ids=str,
)
def test_a_champion_on_few_images(pairs: Pairs, passed: bool) -> None:
    """By hand: four of five equal candidates have at most 2 of 3, 3 of 4, 6 of 10 regressions; those pass."""
    verdict = rules.champion(pairs, 3, GATES)
    assert verdict.passed is passed
    assert not verdict.skipped


def test_a_margin_that_few_images_cannot_prove_is_replaced_and_named() -> None:
    """The sentence says which margin holds, why, and how many images would prove the preset's."""
    detail = rules.champion(Pairs(90, 1, 0), 3, GATES).detail
    assert "required at least -4.83" in detail
    assert "90 images cannot prove the preset's margin of 0.30 points (about 7,400 could)" in detail
    assert "so the margin is 4.83, which 80 % of equal candidates prove" in detail
    assert "cannot prove" not in rules.champion(Pairs(9000, 99, 0), 3, GATES).detail


def test_a_wide_margin_of_the_preset_holds_on_few_images() -> None:
    """Where the images can prove it: the larger of the two margins counts."""
    wide = GATES.model_copy(update={"margin": 0.2})
    verdict = rules.champion(Pairs(90, 8, 0), 3, wide)
    assert verdict.passed
    assert "required at least -20.00" in verdict.detail


@pytest.mark.parametrize(
    ("pairs", "ruled"),
    [
        (Pairs(24, 0, 0), "skipped"),
        (Pairs(25, 0, 0), "passed"),
        (Pairs(20, 2, 0), "skipped"),
        (Pairs(20, 5, 0), "rejected"),
        (Pairs(1, 1, 0), "skipped"),
    ],
    ids=["too few images", "enough", "too few, hardly worse", "too few, much worse", "one image"],
)
def test_the_champion_gate_is_skipped_on_very_few_images(pairs: Pairs, ruled: str) -> None:
    """With a warning, unless the candidate is worse even so."""
    verdict = rules.champion(pairs, 3, GATES)
    assert ruling(verdict) == ruled
    assert verdict.detail.startswith("warning: ") is (ruled == "skipped")
    assert ("expected at least 25" in verdict.detail) is (ruled == "skipped")


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
    """A label that falls behind is rejected and named; what may be chance is not."""
    verdict = rules.classes([*EVEN[:7], pairs, *EVEN[8:]], LABELS, GATES)
    assert verdict.passed is passed
    if not passed:
        assert "label 7 does worst" in verdict.detail


def test_the_label_that_rejects_is_the_one_that_is_named() -> None:
    """Not another one that looks worse but may be chance."""
    verdict = rules.classes([Pairs(10, 2, 0), Pairs(900, 60, 2), *EVEN[2:]], LABELS, GATES)
    assert not verdict.passed
    assert "label 1 does worst" in verdict.detail


@pytest.mark.parametrize("label_count", [2, 10, 26])
def test_the_allowed_chance_is_divided_by_the_number_of_labels_once(label_count: int) -> None:
    """By hand: n regressions alone have a chance of 2^-n; the fewest that reject lie below 0.05 / labels, no lower."""
    rejected = [
        regressions
        for regressions in range(1, 30)
        if not rules.classes(
            [Pairs(100, regressions, 0), *[Pairs(100, 0, 0)] * (label_count - 1)],
            [str(label) for label in range(label_count)],
            GATES,
        ).passed
    ]
    assert rejected[0] == next(n for n in range(1, 30) if 2.0**-n * label_count < 1 - GATES.confidence)


@pytest.mark.parametrize(
    ("counts", "skipped", "named"),
    [
        ((5, 5, 5), True, "warning: "),
        ((1, 5, 6), False, "too few to show a fall: A, B"),
        ((0, 0, 0), True, "warning: "),
    ],
    ids=["every label has too few images", "some labels have too few images", "no images"],
)
def test_labels_with_few_images(counts: tuple[int, ...], skipped: bool, named: str) -> None:
    """By hand: of 3 labels, 6 regressions alone are just rarer than 0.05 / 3 allows, so 5 images show nothing."""
    verdict = rules.classes([Pairs(count, min(count, 1), 0) for count in counts], "ABC", GATES)
    assert verdict.passed
    assert verdict.skipped is skipped
    assert named in verdict.detail


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


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (Verdict("a", True, ""), "passed"),
        (Verdict("a", False, ""), "rejected"),
        (Verdict("a", True, "", skipped=True), "skipped"),
        (manifest_pb2.Verdict(passed=True, skipped=True), "skipped"),
        (manifest_pb2.Verdict(passed=True, abstained=True), "skipped"),
    ],
    ids=["passed", "rejected", "skipped", "skipped, in a manifest", "skipped, in a manifest of an earlier writer"],
)
def test_the_word_for_a_verdict(verdict: Verdict | manifest_pb2.Verdict, expected: str) -> None:
    """One of three, also for manifests that call a skipped gate abstained."""
    assert ruling(verdict) == expected
