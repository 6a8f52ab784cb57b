"""How often the gates are wrong, by simulation: 10,000 comparisons of models whose difference is known."""

import pytest

from pipeline.config import Gates
from tests.benchmarks.bench_gates import DISCORDANCE, WORSE, champion_passes, classes_pass

DRAWS = 10_000
GATES = Gates()


@pytest.mark.parametrize("accuracy", DISCORDANCE)
def test_a_candidate_that_is_worse_by_the_margin_rarely_passes(accuracy: str) -> None:
    """In about one of twenty, as the confidence says, whatever the models' accuracy."""
    assert GATES.margin == WORSE
    assert champion_passes(DISCORDANCE[accuracy], WORSE, GATES, DRAWS) <= 0.06


@pytest.mark.parametrize(("accuracy", "most"), [("98.8 %", 0.18), ("99.6 %", 0.01)])
def test_an_equal_candidate_is_refused_as_often_as_the_docs_say(accuracy: str, most: float) -> None:
    """What 9,000 images cannot tell apart must be refused; better models differ on fewer of them."""
    assert 1 - champion_passes(DISCORDANCE[accuracy], 0, GATES, DRAWS) <= most


@pytest.mark.parametrize("accuracy", DISCORDANCE)
def test_an_equal_candidate_is_hardly_ever_refused_for_one_label(accuracy: str) -> None:
    """Over all ten labels together."""
    assert 1 - classes_pass(DISCORDANCE[accuracy], 0, GATES, DRAWS) <= 0.005


@pytest.mark.parametrize("accuracy", DISCORDANCE)
def test_a_candidate_that_loses_five_points_of_one_label_is_refused(accuracy: str) -> None:
    """Though all labels together may hide it."""
    assert classes_pass(DISCORDANCE[accuracy], 0.05, GATES, DRAWS) <= 0.001
