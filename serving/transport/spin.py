"""Looks for the next call without sleeping, for a moment after each answer.

A sleeping event loop is woken by grpcio's polling thread through a socket, two or three times a call. For a caller who
sends one call after the other that is nearly half the time. A loop that does not sleep costs a core while calls come.
"""

import asyncio
import time
from collections.abc import Callable


class Spinner:
    """Keeps the running event loop turning for `spin_s` after each `touch`, unless `is_busy`: then a core is wanted."""

    def __init__(self, spin_s: float, is_busy: Callable[[], bool]) -> None:
        self._spin_s = spin_s
        self._is_busy = is_busy
        self._until = 0.0
        self._is_turning = False

    def touch(self) -> None:
        """A call was answered: the next one may be near."""
        if not self._spin_s:
            return
        self._until = time.monotonic() + self._spin_s
        if not self._is_turning:
            self._is_turning = True
            self._turn(asyncio.get_running_loop())

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        if time.monotonic() < self._until and not self._is_busy():
            loop.call_soon(self._turn, loop)
        else:
            self._is_turning = False
