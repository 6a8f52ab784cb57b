"""The gate: who may swap, and when. What came of it is told as "swap 0", "replace 1"."""

import asyncio
from collections.abc import Callable

import pytest

from serving.workers.gate import Change, Gate, State

OLD = Change("a" * 64, 1)
NEW = Change("b" * 64, 2)


@pytest.fixture
def told() -> list[str]:
    """What the gate decided, in order."""
    return []


@pytest.fixture
async def gate(told: list[str]) -> Gate:
    """A gate with workers 0 and 1, both serving the old version; its patience is 50 ms."""
    gate = Gate(lambda worker, _: told.append(f"swap {worker}"), lambda worker: told.append(f"replace {worker}"), 0.05)
    for worker in (0, 1):
        gate.enter(worker)
        gate.hear(worker, State.SERVES, OLD)
    return gate


async def until(holds: Callable[[], bool]) -> None:
    """Wait for it."""
    while not holds():
        await asyncio.sleep(0.01)


async def test_workers_swap_when_all_are_ready(gate: Gate, told: list[str]) -> None:
    """The first one waits for the last one."""
    gate.hear(1, State.READY, NEW)
    assert told == []
    gate.hear(0, State.READY, NEW)
    assert told == ["swap 0", "swap 1"]


async def test_a_version_that_all_refuse_replaces_nobody(gate: Gate, told: list[str]) -> None:
    """It is the version's fault."""
    for worker in (0, 1):
        gate.hear(worker, State.REFUSED, NEW)
    assert told == []


@pytest.mark.parametrize("first", [0, 1], ids=["rejected, then ready", "ready, then rejected"])
async def test_a_worker_that_alone_rejects_is_waited_for_then_replaced(gate: Gate, told: list[str], first: int) -> None:
    """Its files may still be arriving; later it must not serve the old version beside the others."""
    said = [(0, State.REFUSED), (1, State.READY)]
    for worker, state in (said[first], said[1 - first]):
        gate.hear(worker, state, NEW)
    assert told == []
    await until(lambda: "replace 0" in told)
    assert told == ["swap 1", "replace 0"]
    gate.hear(0, State.REFUSED, NEW)
    await asyncio.sleep(0.1)
    assert told == ["swap 1", "replace 0"]


async def test_a_worker_that_rejects_and_then_is_ready_swaps_with_the_others(gate: Gate, told: list[str]) -> None:
    """The last file has arrived meanwhile."""
    gate.hear(0, State.REFUSED, NEW)
    gate.hear(1, State.READY, NEW)
    gate.hear(0, State.READY, NEW)
    assert told == ["swap 0", "swap 1"]
    await asyncio.sleep(0.1)
    assert told == ["swap 0", "swap 1"]


async def test_a_worker_that_rejects_what_others_serve_is_replaced(gate: Gate, told: list[str]) -> None:
    """As one that has started beside them."""
    for worker in (0, 1):
        gate.hear(worker, State.READY, NEW)
    gate.leave(0)
    gate.enter(0)
    gate.hear(0, State.REFUSED, NEW)
    await until(lambda: "replace 0" in told)
    assert told == ["swap 0", "swap 1", "replace 0"]


async def test_a_worker_that_ends_is_not_waited_for(gate: Gate, told: list[str]) -> None:
    """Whoever is left is all of them."""
    gate.hear(1, State.READY, NEW)
    gate.leave(0)
    assert told == ["swap 1"]


async def test_a_worker_that_starts_is_waited_for(gate: Gate, told: list[str]) -> None:
    """It may have begun with the old version, and says so or swaps with the others."""
    gate.leave(0)
    gate.enter(0)
    gate.hear(1, State.READY, NEW)
    assert told == []
    gate.hear(0, State.SERVES, NEW)
    assert told == ["swap 1"]


async def test_a_worker_that_is_late_is_not_waited_for_beyond_patience(gate: Gate, told: list[str]) -> None:
    """It swaps by itself when it is ready."""
    gate.hear(1, State.READY, NEW)
    await until(lambda: told != [])
    assert told == ["swap 1"]
    gate.hear(0, State.READY, NEW)
    assert told == ["swap 1", "swap 0"]


async def test_workers_that_saw_different_changes_do_not_swap(gate: Gate, told: list[str]) -> None:
    """The one that waits for the older change looks at CURRENT again and comes back with the newer one."""
    gate.hear(0, State.READY, NEW)
    newest = Change("c" * 64, 3)
    gate.hear(1, State.READY, newest)
    assert told == []
    gate.hear(0, State.READY, newest)
    assert told == ["swap 0", "swap 1"]
