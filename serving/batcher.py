"""Joins the images of concurrent calls into batches: a queue, a limit and a clock.

A batch starts as soon as a worker is free, so an idle server never waits; what arrives meanwhile forms the next one.
Knows neither the transport nor onnxruntime.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

import numpy as np

from serving.errors import DeadlineError, OverloadedError
from serving.pixels import FULL_RETRY_S, Images


class Answers(Protocol):
    """What a run gives: one answer an image, cut like an array."""

    def __getitem__(self, images: slice, /) -> Self:
        """The answers of some of the images."""


T = TypeVar("T", bound=Answers)


@dataclass(frozen=True, eq=False)
class _Pending(Generic[T]):
    images: Images
    deadline: float | None
    answers: asyncio.Future[T]


class Batcher(Generic[T]):
    """Runs batches with `run`, at most `workers` of them at once.

    `run` takes images, uint8 (image, row, column), and gives one answer an image. A call's images stay together, so
    all its answers come from one run. A batch has images of one size only.
    """

    def __init__(
        self,
        run: Callable[[Images], Awaitable[T]],
        *,
        max_batch_images: int,
        max_queue_images: int,
        workers: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._max_batch_images = max_batch_images
        self._max_queue_images = max_queue_images
        self._idle_workers = workers
        self._clock = clock
        self._queue: OrderedDict[_Pending[T], None] = OrderedDict()  # in order, and quick to leave
        self._queued_images = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, images: Images, deadline: float | None = None) -> T:
        """The answers for `images`, in their order.

        Raises OverloadedError at once when the queue is full, DeadlineError when `deadline` (seconds on the clock)
        passes while queued. Cancelling the caller's task takes the images out; its neighbours never notice.
        """
        if self._queued_images + len(images) > self._max_queue_images:
            raise OverloadedError(
                f"the queue is full: it holds {self._queued_images} of at most {self._max_queue_images} images",
                retry_after_s=FULL_RETRY_S,
                metadata={"queued_images": self._queued_images, "max_queue_images": self._max_queue_images},
            )
        pending = _Pending(images, deadline, asyncio.get_running_loop().create_future())
        self._queue[pending] = None
        self._queued_images += len(images)
        self._start_batches()
        try:
            answers: T = await pending.answers
        finally:
            self._leave_queue(pending)  # where a cancelled call may still stand
        return answers

    def _leave_queue(self, pending: _Pending[T]) -> None:
        if pending in self._queue:
            del self._queue[pending]
            self._queued_images -= len(pending.images)

    def _start_batches(self) -> None:
        while self._idle_workers and (batch := self._next_batch()):
            self._idle_workers -= 1
            task = asyncio.create_task(self._work(batch))
            self._tasks.add(task)  # the loop itself keeps only weak references
            task.add_done_callback(self._tasks.discard)

    async def _work(self, batch: list[_Pending[T]]) -> None:
        try:
            await self._answer(batch)
        finally:
            self._idle_workers += 1
            self._start_batches()

    def _next_batch(self) -> list[_Pending[T]]:
        """Calls in their order, as many as fit; those that nobody waits for any more are dropped."""
        batch: list[_Pending[T]] = []
        room = self._max_batch_images
        while self._queue:
            pending = next(iter(self._queue))
            if self._is_waited_for(pending):
                if batch and (len(pending.images) > room or _image_shape(pending) != _image_shape(batch[0])):
                    break
                batch.append(pending)
                room -= len(pending.images)
            self._leave_queue(pending)
        return batch

    def _is_waited_for(self, pending: _Pending[T]) -> bool:
        if pending.answers.done():  # cancelled
            return False
        if pending.deadline is not None and self._clock() >= pending.deadline:
            pending.answers.set_exception(DeadlineError("the deadline passed while the call was queued"))
            return False
        return True

    async def _answer(self, batch: list[_Pending[T]]) -> None:
        try:
            answers = await self._run(_joined(batch))
        except Exception as error:
            await self._answer_alone(batch, error)
            return
        start = 0
        for pending in batch:
            stop = start + len(pending.images)
            if not pending.answers.done():
                pending.answers.set_result(answers[start:stop])
            start = stop

    async def _answer_alone(self, batch: list[_Pending[T]], error: Exception) -> None:
        """After a batch failed: one call's fault stays its own, so each is run once more by itself."""
        if len(batch) > 1:
            for pending in batch:
                if self._is_waited_for(pending):
                    await self._answer([pending])
        elif not batch[0].answers.done():
            batch[0].answers.set_exception(error)


def _image_shape(pending: _Pending[T]) -> tuple[int, ...]:
    return pending.images.shape[1:]


def _joined(batch: list[_Pending[T]]) -> Images:
    return batch[0].images if len(batch) == 1 else np.concatenate([pending.images for pending in batch])
