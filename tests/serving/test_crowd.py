"""Who is waited for: those who are known to come, for as long as they may still come, and nobody else."""

import asyncio
import time

import pytest

from serving.batching.crowd import IDLE_S, LARGEST, LONGEST_PAUSE, LONGEST_S, SMALLEST, Crowd
from tests.serving.test_batcher import Model, make, pictures


def answer(crowd: Crowd, callers: int, *, batches: int, now: float = 0.0) -> list[int]:
    """Let so many callers come each time, as many as are waited for at most; gives what was expected each time."""
    history = []
    for _ in range(batches):
        crowd.answered(now)
        expected = crowd.expected(now)
        history.append(expected)
        calls = min(callers, expected)
        crowd.came(calls, expected, 0.0001 * (calls - 1))
    return history


def test_a_lone_caller_is_hardly_ever_kept_waiting() -> None:
    """Looks whether somebody else comes grow rare, and one batch in 256 is the least and the most."""
    waits = [expected > 1 for expected in answer(Crowd(), 1, batches=4000)]
    assert sum(waits) < 30
    assert any(waits[-LONGEST_PAUSE - 1 :])


def test_a_crowd_is_found_within_a_dozen_batches() -> None:
    """Twice as many are expected each time that as many came."""
    history = answer(Crowd(), 64, batches=12)
    assert history[-1] == LARGEST


def test_as_many_are_waited_for_as_come() -> None:
    """Twenty callers: batches of twenty, and a wait for more only now and then."""
    history = answer(Crowd(), 20, batches=2000)
    assert history.count(20) > 1900
    assert set(history) <= {1, 4, 8, 16, 20, 32, 40}


@pytest.mark.parametrize("callers", range(2, SMALLEST))
def test_so_few_are_not_waited_for(callers: int) -> None:
    """They are answered as soon one after the other."""
    history = answer(Crowd(), callers, batches=2000)
    assert history.count(1) > 1900


def test_when_the_crowd_has_gone_the_next_call_is_alone() -> None:
    """One batch waits in vain, and after a moment without a call not even that."""
    crowd = Crowd()
    answer(crowd, 64, batches=12)
    assert crowd.expected(IDLE_S * 2) == 1
    crowd.came(1, LARGEST, 0.0)
    assert crowd.expected(0.0) == 1


def test_a_wait_ends_when_nobody_comes_any_more() -> None:
    """By the interval in which calls came before, and never later than two milliseconds."""
    crowd = Crowd()
    assert not crowd.is_over(since_first_s=0.0005, since_last_s=0.0001, turns=20)
    assert crowd.is_over(since_first_s=0.0005, since_last_s=0.0004, turns=20)
    assert not crowd.is_over(since_first_s=0.0005, since_last_s=0.0004, turns=2)
    assert crowd.is_over(since_first_s=LONGEST_S * 1.01, since_last_s=0, turns=0)
    for _ in range(100):
        crowd.came(5, 5, 4 * 0.0003)
    assert not crowd.is_over(since_first_s=0.0005, since_last_s=0.0004, turns=20)


def known_crowd() -> Crowd:
    """Twelve callers, and no look for more soon; the server is not idle."""
    crowd = Crowd()
    answer(crowd, 12, batches=500)
    return crowd


async def test_a_bulk_call_waits_for_nobody_and_teaches_nothing() -> None:
    """It runs as it comes; the crowd is still known afterwards."""
    crowd = known_crowd()
    model = Model()
    batcher = make(model, crowd=crowd)
    before = crowd.expected(0.0)
    _, timing = await batcher.timed(pictures(*range(20)))
    assert timing.dispatch == "idle"
    assert crowd.expected(0.0) == before >= 12


async def test_nobody_is_waited_for_once_a_batch_is_large_enough() -> None:
    """Four calls of sixteen images are a worker's share, though twelve calls are expected; the clock stands still."""
    model = Model()
    batcher = make(model, crowd=known_crowd())
    calls = [asyncio.create_task(batcher.timed(pictures(*[value] * 16))) for value in range(4)]
    for _, timing in await asyncio.wait_for(asyncio.gather(*calls), 60):
        assert (timing.batch_images, timing.dispatch) == (64, "gathered")


async def test_callers_that_keep_coming_one_by_one_share_batches() -> None:
    """Each arrives in a turn of its own, as grpcio hands them over, and comes back once it is answered."""
    model = Model()
    batcher = make(model, inline=True, crowd=Crowd(), clock=time.monotonic)
    batcher.loaded({64: 0.0001})
    stop = time.monotonic() + 0.5

    async def caller(value: int) -> None:
        while time.monotonic() < stop:
            assert (await batcher.submit(pictures(value))).tolist() == [value]
            for _ in range(value):
                await asyncio.sleep(0)

    await asyncio.gather(*map(caller, range(20)))
    late = model.batches[len(model.batches) // 2 :]
    assert sum(map(len, late)) / len(late) > 2


async def test_an_idle_server_never_waits_whatever_it_knows() -> None:
    """After a moment without a call, the first one is answered without a turn of the event loop."""
    model = Model()
    batcher = make(model, inline=True, crowd=Crowd(), clock=time.monotonic)
    batcher.loaded({64: 0.0001})
    for _ in range(20):
        await batcher.submit(pictures(1))
    await asyncio.sleep(2 * IDLE_S)
    call = asyncio.create_task(batcher.timed(pictures(2)))
    await asyncio.sleep(0)
    assert call.done()
    assert call.result()[1].dispatch == "idle"
