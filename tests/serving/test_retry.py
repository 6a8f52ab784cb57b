"""When a version that could not be loaded is tried again, by a clock that the test moves."""

import pytest

from serving.versions.retry import MAX_S, SLOW_S, RetryPolicy
from tests.serving.conftest import Clock


@pytest.fixture
def policy(clock: Clock) -> RetryPolicy:
    """A policy that goes by it."""
    return RetryPolicy(clock)


def pauses(policy: RetryPolicy, clock: Clock, tries: int, *, may_pass: bool) -> list[float]:
    """The seconds from each failure until the next try, in steps of 0.5."""
    waited = []
    for _ in range(tries):
        policy.failed("as before", may_pass=may_pass)
        began = clock.now_s
        while not policy.is_due("as before"):
            clock.now_s += 0.5
        waited.append(clock.now_s - began)
    return waited


def test_what_may_pass_is_retried_with_backoff(policy: RetryPolicy, clock: Clock) -> None:
    """Twice as long each time, up to a limit."""
    assert pauses(policy, clock, 9, may_pass=True) == [0.5, 1, 2, 4, 8, 16, MAX_S, MAX_S, MAX_S]


def test_what_is_wrong_is_retried_slowly(policy: RetryPolicy, clock: Clock) -> None:
    """A hash that does not match is computed again once a minute."""
    assert pauses(policy, clock, 3, may_pass=False) == [SLOW_S] * 3


def test_what_hangs_is_not_retried_until_it_is_over(policy: RetryPolicy, clock: Clock) -> None:
    """Each try may cost a thread; a disk that answers again is tried slowly."""
    is_over = False
    policy.failed("as before", may_pass=False, is_over=lambda: is_over)
    clock.now_s = 1e9
    assert not policy.is_due("as before")
    is_over = True
    assert policy.is_due("as before")
    policy.failed("as before", may_pass=False, is_over=lambda: is_over)
    clock.now_s += SLOW_S - 1
    assert not policy.is_due("as before")


@pytest.mark.parametrize("is_over", [False, True])
@pytest.mark.parametrize("may_pass", [False, True])
def test_a_change_of_a_file_triggers_a_try_at_once(policy: RetryPolicy, may_pass: bool, is_over: bool) -> None:
    """Whatever had failed."""
    policy.failed("as before", may_pass=may_pass, is_over=lambda: is_over)
    assert policy.is_due("changed")


def test_a_change_of_a_file_begins_the_backoff_anew(policy: RetryPolicy, clock: Clock) -> None:
    """Files that arrive slowly do not make the next pause longer."""
    pauses(policy, clock, 6, may_pass=True)
    policy.failed("changed", may_pass=True)
    clock.now_s += 0.5
    assert policy.is_due("changed")
