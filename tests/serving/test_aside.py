"""Work in a thread of its own, with a line before it that has an end."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from serving.aside import FULL_RETRY_S, Aside
from serving.errors import OverloadedError


@pytest.fixture
def aside() -> Iterator[Aside]:
    """A line of two."""
    aside = Aside("things", max_waiting=2)
    yield aside
    aside.close()


async def test_work_is_done_elsewhere_one_after_the_other(aside: Aside) -> None:
    """The caller gets what it gives, or raises."""
    assert await aside.do(lambda: threading.current_thread().name) != threading.current_thread().name
    names = await asyncio.gather(*(aside.do(threading.get_ident) for _ in range(2)))
    assert names[0] == names[1]
    with pytest.raises(ZeroDivisionError):
        await aside.do(lambda: 1 // 0)


async def test_a_full_line_is_refused_at_once(aside: Aside) -> None:
    """With what waits, how many of them, and when to come back; room is there again once work is done."""
    go_on = threading.Event()
    waiting = [asyncio.create_task(aside.do(go_on.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="too many things wait: 2 of at most 2") as error:
        await aside.do(go_on.wait)
    assert error.value.retry_after_s == FULL_RETRY_S
    go_on.set()
    await asyncio.gather(*waiting)
    assert await aside.do(lambda: "done", size=2) == "done"
    with pytest.raises(OverloadedError, match="0 of at most 2"):
        await aside.do(lambda: "done", size=3)


async def test_who_goes_away_leaves_its_place(aside: Aside) -> None:
    """And work that had not begun is never done."""
    go_on, done = threading.Event(), []
    first = asyncio.create_task(aside.do(go_on.wait))
    second = asyncio.create_task(aside.do(lambda: done.append("second")))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.sleep(0)
    third = asyncio.create_task(aside.do(lambda: done.append("third")))
    go_on.set()
    await asyncio.gather(first, third)
    assert done == ["third"]
