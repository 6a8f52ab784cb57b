"""When a version that could not be loaded is tried again: when one of its files changes, else with backoff."""

import time
from collections.abc import Callable, Hashable

FIRST_S = 0.5
MAX_S = 30.0
SLOW_S = 60.0
"""For bytes or answers that are wrong: without a change of a file, only a disk or a GPU that recovers can mend them."""


class RetryPolicy:
    """The failures of one version. `signature` stands for the state of its files when a try began."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pause_s = FIRST_S
        self._signature: Hashable = None
        self._due_s = 0.0
        self._is_over: Callable[[], bool] = lambda: True

    def failed(self, signature: Hashable, *, may_pass: bool, is_over: Callable[[], bool] = lambda: True) -> None:
        """A try failed: `may_pass` for what needs no change of a file to pass, such as an error of a network disk.

        Until `is_over` only a change of a file triggers the next try: what hangs may hang again, and costs a thread.
        """
        if signature != self._signature:
            self._pause_s = FIRST_S
        pause_s = self._pause_s if may_pass else SLOW_S
        self._signature, self._due_s, self._is_over = signature, self._clock() + pause_s, is_over
        self._pause_s = min(2 * self._pause_s, MAX_S)

    def is_due(self, signature: Hashable) -> bool:
        """Whether to try again, now that the files are as `signature` says."""
        return signature != self._signature or (self._clock() >= self._due_s and self._is_over())
