"""How long runs take, as far as it is known."""

import pytest

from serving.batching.pace import Pace

RUN_S = {1: 0.001, 2: 0.001, 4: 0.002, 8: 0.004}


def test_nothing_is_known_at_first() -> None:
    """And nothing counts as quick."""
    pace = Pace()
    assert pace.run_s(100) == 0
    assert pace.quick_rows == 0


def test_what_is_quick_is_known_when_a_model_is_loaded() -> None:
    """Up to the largest number of images that ran in half a millisecond, whatever runs take later."""
    pace = Pace({1: 0.0001, 2: 0.0002, 4: 0.0004, 8: 0.0008})
    for _ in range(100):
        pace.observe(1, 1.0)
    assert pace.quick_rows == 4


@pytest.mark.parametrize(("images", "seconds"), [(1, 0.001), (4, 0.002), (6, 0.003), (8, 0.004), (800, 0.4)])
def test_a_version_is_known_from_its_warm_up(images: int, seconds: float) -> None:
    """Sizes between and beyond those that ran cost as much an image as their nearest."""
    pace = Pace(RUN_S)
    assert pace.run_s(images) == pytest.approx(seconds)


def test_small_runs_say_nothing_about_large_ones() -> None:
    """A thousand slow single images leave eight as they were."""
    pace = Pace(RUN_S)
    for _ in range(1000):
        pace.observe(1, 0.01)
    assert pace.run_s(1) == pytest.approx(0.01)
    assert pace.run_s(8) == pytest.approx(0.004)


def test_waiting_work_costs_what_shared_runs_do() -> None:
    """A single image costs its part of a run of many; a large call costs what calls of its size take lately."""
    pace = Pace({**RUN_S, 32: 0.008, 128: 0.064})
    assert pace.work_s(1) == pytest.approx(0.00025)
    assert pace.work_s(128) == pytest.approx(0.064)
    for _ in range(200):
        pace.observe(128, 0.128)
    assert pace.work_s(128) == pytest.approx(0.128)
    assert Pace().work_s(100) == 0


def test_an_answer_waits_for_what_goes_before_and_for_a_batch() -> None:
    """And for the usual batch that it may share."""
    pace = Pace(RUN_S)
    for _ in range(200):
        pace.observe(8, 0.004)
    assert pace.answer_s(2, before_s=0.1) == pytest.approx(0.1 + 0.001 + 0.004)
