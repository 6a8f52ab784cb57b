"""The gate before a swap: workers that have proved a version wait here, and go through together.

Each worker follows CURRENT by itself. Without the gate a caller with two connections would see the new version on one
and then the old one on the other, for as long as their loading differs.
"""

import asyncio
import logging
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

PATIENCE_S = 10.0
"""A worker that takes longer than another one by so many seconds is not waited for."""

log = logging.getLogger(__name__)


class Change(NamedTuple):
    """One state of CURRENT."""

    sha256: str
    """Of the manifest of the version that it names; empty where CURRENT could not be read."""
    generation: int
    version: int = 0


class State(StrEnum):
    """What a worker did with a change."""

    READY = "ready"
    """Loaded and proved; waits."""
    SERVES = "serves"
    REFUSED = "refused"


class Gate:
    """Hears every worker's last word and decides who may swap.

    Workers swap when each of them is ready for the same change or serves it already. One that has rejected it is waited
    for, since the files may still be arriving. If it does not follow the others, it has a fault of its own, and would
    keep serving the old version beside the new one: it is replaced.
    """

    def __init__(
        self, swap: Callable[[int, Change], None], replace: Callable[[int], None], patience_s: float = PATIENCE_S
    ) -> None:
        self._swap = swap
        self._replace = replace
        self._patience_s = patience_s
        self._words: dict[int, tuple[State, Change] | None] = {}

    def enter(self, worker: int) -> None:
        """A worker starts: it is waited for."""
        self._words[worker] = None

    def leave(self, worker: int) -> None:
        """A worker has ended."""
        self._words.pop(worker, None)
        self._decide()

    def hear(self, worker: int, state: State, change: Change) -> None:
        """A worker says what it did."""
        if worker not in self._words:  # it drains, to be replaced
            return
        self._words[worker] = state, change
        if state is not State.SERVES:
            asyncio.get_running_loop().call_later(self._patience_s, self._lose_patience, change)
        self._decide()

    def _decide(self) -> None:
        changes = {word[1] if word and word[0] is not State.REFUSED else None for word in self._words.values()}
        if len(changes) == 1 and (change := changes.pop()):
            self._open(change)

    def _open(self, change: Change) -> None:
        for worker, word in self._words.items():
            if word == (State.READY, change):
                self._words[worker] = State.SERVES, change
                self._swap(worker, change)

    def _lose_patience(self, change: Change) -> None:
        words = self._words
        if (State.READY, change) in words.values():
            late = [str(worker) for worker, word in words.items() if not word or word[1] != change]
            if late:
                log.warning("swapping without worker %s, not ready in %g s", ", ".join(late), self._patience_s)
            self._open(change)
        if (State.SERVES, change) in words.values():
            for worker in [worker for worker, word in words.items() if word == (State.REFUSED, change)]:
                del words[worker]
                self._replace(worker)
