"""How often the gates are wrong, by simulation: thousands of comparisons of models whose difference is known."""

import pytest

from pipeline.config import Gates
from pipeline.gates.rules import POWER
from tests.benchmarks.bench_gates import COUNTS, DISCORDANCE, MNIST, calibration_passes, champion_passes, classes_pass

DRAWS = 10_000
FEWER_DRAWS = 2_000  # of as many cases as the tables of docs/gates.md have
GATES = Gates()


@pytest.mark.parametrize(("accuracy", "most"), [("98.8 %", 0.08), ("99.6 %", 0.06)])
def test_a_candidate_that_is_worse_by_the_margin_rarely_passes(accuracy: str, most: float) -> None:
    """On MNIST's images in about one of twenty, as the confidence says; a little more where models differ much."""
    assert GATES.margin == 0.003
    assert champion_passes(DISCORDANCE[accuracy], 0.003, GATES, DRAWS) <= most


@pytest.mark.parametrize(("accuracy", "most"), [("98.8 %", 0.18), ("99.6 %", 0.01)])
def test_an_equal_candidate_is_rejected_as_often_as_the_docs_say(accuracy: str, most: float) -> None:
    """What 9,000 images cannot tell apart must be rejected; better models differ on fewer of them."""
    assert 1 - champion_passes(DISCORDANCE[accuracy], 0, GATES, DRAWS) <= most


@pytest.mark.parametrize("accuracy", DISCORDANCE)
@pytest.mark.parametrize("images", COUNTS)
def test_an_equal_candidate_mostly_passes_however_few_the_images_are(images: int, accuracy: str) -> None:
    """At most one of five is rejected, and the noise of the simulation."""
    assert champion_passes(DISCORDANCE[accuracy], 0, GATES, FEWER_DRAWS, images) >= POWER - 0.02


@pytest.mark.parametrize("accuracy", MNIST)
@pytest.mark.parametrize(
    ("images", "worse", "most"),
    [(60, 0.03, 0.75), (150, 0.03, 0.28), (300, 0.03, 0.07), (900, 0.01, 0.18), (1800, 0.01, 0.04)],
)
def test_a_clearly_worse_candidate_is_rejected_as_far_as_the_images_show_it(
    accuracy: str, images: int, worse: float, most: float
) -> None:
    """As often as the docs say; a margin made wider for few images lets no model through that collapsed."""
    assert champion_passes(DISCORDANCE[accuracy], worse, GATES, FEWER_DRAWS, images) <= most
    assert champion_passes(DISCORDANCE[accuracy], 0.3, GATES, FEWER_DRAWS, images) <= 0.001


@pytest.mark.parametrize("accuracy", MNIST)
def test_an_equal_candidate_is_hardly_ever_rejected_for_one_label(accuracy: str) -> None:
    """Over all ten labels together."""
    assert 1 - classes_pass(DISCORDANCE[accuracy], 0, GATES, DRAWS) <= 0.005


@pytest.mark.parametrize("accuracy", MNIST)
def test_a_candidate_that_loses_five_points_of_one_label_is_rejected(accuracy: str) -> None:
    """Though all labels together may hide it."""
    assert classes_pass(DISCORDANCE[accuracy], 0.05, GATES, DRAWS) <= 0.001


@pytest.mark.parametrize("images", [20, 45, 150, 900])
def test_a_calibrated_candidate_is_hardly_ever_rejected(images: int) -> None:
    """The noise of few images is allowed for; of a normal sum, so that a few more than one of twenty are rejected."""
    assert calibration_passes(0, GATES, FEWER_DRAWS, images) >= 0.91


@pytest.mark.parametrize(("images", "most"), [(45, 0.3), (150, 0.05), (900, 0.001)])
def test_an_overconfident_candidate_is_rejected(images: int, most: float) -> None:
    """One that claims ten points too much, as far as the images show it."""
    assert calibration_passes(0.1, GATES, FEWER_DRAWS, images) <= most
