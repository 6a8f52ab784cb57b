"""Work in threads with a time limit: a disk or a model that hangs stops neither the polling nor the exit."""

import asyncio
import errno
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

MAX_HUNG = 8
THREAD_NAME = "load"

R = TypeVar("R")


class HungError(TimeoutError):
    """The work did not end within its limit; `abandoned` is what it may still come to, None where it was not begun."""

    def __init__(self, abandoned: "Future[Any] | None" = None) -> None:
        super().__init__()
        self.abandoned = abandoned


class LimitedThreads:
    """Runs work in daemon threads, and abandons those that exceed their limit: nothing can end them from outside."""

    def __init__(self) -> None:
        self._running: set[Future[Any]] = set()

    async def run(self, work: Callable[[], R], limit_s: float) -> R:
        """What `work` returns or raises.

        Raises HungError after `limit_s`, and at once while `MAX_HUNG` threads hang; OSError where no thread can start.
        """
        if len(self._running) >= MAX_HUNG:
            raise HungError
        future: Future[R] = Future()
        self._running.add(future)
        try:
            threading.Thread(target=self._work, args=(work, future), name=THREAD_NAME, daemon=True).start()
        except RuntimeError as error:
            self._running.discard(future)
            raise OSError(errno.EAGAIN, str(error)) from error
        done, _ = await asyncio.wait({outcome := asyncio.wrap_future(future)}, timeout=limit_s)
        if not done:
            outcome.add_done_callback(lambda late: late.cancelled() or late.exception())  # nobody waits for it
            raise HungError(future)
        return outcome.result()

    def _work(self, work: Callable[[], R], future: "Future[R]") -> None:
        try:
            result = work()
        except BaseException as error:  # it reaches whoever waits
            self._running.discard(future)
            future.set_exception(error)
        else:
            self._running.discard(future)
            future.set_result(result)
