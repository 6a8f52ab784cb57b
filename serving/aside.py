"""Work that neither the event loop nor a swap may wait for: one thread, and a line before it that has an end."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from serving.errors import OverloadedError

FULL_RETRY_S = 0.1

R = TypeVar("R")


class Aside:
    """Does one piece of work after the other in a thread of its own.

    `what` waits there, in the words of the refusal, such as "images to be looked into"; `max_waiting` of them at most.
    """

    def __init__(self, what: str, *, max_waiting: int) -> None:
        self._what = what
        self._max_waiting = max_waiting
        self._waiting = 0
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="aside")

    async def do(self, work: Callable[[], R], *, size: int = 1) -> R:
        """What `work` gives, which stands for `size` of them; raises OverloadedError at once where the line is full."""
        if self._waiting + size > self._max_waiting:
            raise OverloadedError(
                f"too many {self._what} wait: {self._waiting} of at most {self._max_waiting}",
                retry_after_s=FULL_RETRY_S,
            )
        self._waiting += size
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= size

    def close(self) -> None:
        """End the thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)
