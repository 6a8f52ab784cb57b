"""Joins the images of concurrent calls into batches: a queue, a limit and a clock.

An idle server never waits: a batch starts as soon as a worker is free, and what arrives meanwhile forms the next one.
Interactive calls (few images) go before bulk calls, which are never passed over for long. Knows neither the transport
nor onnxruntime.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

import numpy as np

from serving.errors import DeadlineError, OverloadedError
from serving.pace import Pace
from serving.pixels import FULL_RETRY_S, Images

INTERACTIVE_IMAGES = 16
"""A call of so many images or fewer goes before larger ones."""

PATIENCE_BATCHES = 4
"""A bulk call is passed over by so many batches at most."""

SHARE_IMAGES = 64
"""A queue of more images is shared among the idle workers; less is not worth a second batch."""


class Answers(Protocol):
    """What a run gives: one answer an image, cut like an array."""

    def __getitem__(self, images: slice, /) -> Self:
        """The answers of some of the images."""


class Observer(Protocol):
    """Is told what happened."""

    def call_waited(self, queue_s: float) -> None:
        """A call's batch began; the call had waited for `queue_s`."""

    def batch_ran(self, image_count: int, compute_s: float) -> None:
        """The model answered a batch."""


T = TypeVar("T", bound=Answers)


@dataclass(frozen=True)
class Timing:
    """Where the time of a call went, in seconds."""

    queue_s: float
    """From its arrival until its batch was put together."""
    compute_s: float
    """The run of its batch."""
    batch_images: int
    """The images of that batch."""

    def __str__(self) -> str:
        queue_us, compute_us = round(1e6 * self.queue_s), round(1e6 * self.compute_s)
        return f"queue_us={queue_us} compute_us={compute_us} batch_images={self.batch_images}"


@dataclass(eq=False, slots=True)
class _Pending(Generic[T]):
    images: Images
    deadline: float | None
    arrived: float
    answered: "asyncio.Future[tuple[T, Timing]]"


class Batcher(Generic[T]):
    """Runs batches with `run`, at most `workers` of them at once.

    `run` takes images, uint8 (image, row, column), and gives one answer an image. A call's images stay together, so
    all its answers come from one run. A batch has images of one size only. When nobody waits and a worker is idle, up
    to `max_inline_images` are run by `run_now` where they arrive: a queue would cost them more than it could save.
    """

    def __init__(
        self,
        run: Callable[[Images], Awaitable[T]],
        run_now: Callable[[Images], T],
        observer: Observer,
        *,
        max_inline_images: int,
        max_batch_images: int,
        max_queue_images: int,
        workers: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._run_now = run_now
        self._observer = observer
        self._max_inline_images = max_inline_images
        self._max_batch_images = max_batch_images
        self._max_queue_images = max_queue_images
        self._workers = self._idle_workers = workers
        self._clock = clock
        self._interactive = _Queue[T]()
        self._bulk = _Queue[T]()
        self._is_waking = False
        self._passed_over = 0
        self._running_images = 0
        self._pace = Pace()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def queued_images(self) -> int:
        """The images that wait for a run."""
        return self._interactive.image_count + self._bulk.image_count

    async def submit(self, images: Images, deadline: float | None = None) -> tuple[T, Timing]:
        """The answers for `images`, in their order, and where their time went.

        Raises OverloadedError at once when the queue is full, or when `deadline` (seconds on the clock) cannot be met
        at the pace of the last batches; DeadlineError when it passes all the same while queued. Cancelling the
        caller's task takes the images out; its neighbours never notice.
        """
        arrived = self._clock()
        if len(images) <= self._max_inline_images and self._idle_workers and not self.queued_images:
            return self._answer_now(images, arrived)
        queue = self._interactive if len(images) <= INTERACTIVE_IMAGES else self._bulk
        self._admit(images, queue, deadline, arrived)
        pending = _Pending[T](images, deadline, arrived, asyncio.get_running_loop().create_future())
        queue.join(pending)
        self._wake()
        try:
            return await pending.answered
        finally:
            queue.leave(pending)  # where a cancelled call may still stand

    def _answer_now(self, images: Images, arrived: float) -> tuple[T, Timing]:
        answers = self._run_now(images)
        compute_s = self._clock() - arrived
        self._batch_ran(len(images), compute_s)
        self._observer.call_waited(0.0)
        return answers, Timing(0.0, compute_s, len(images))

    def _batch_ran(self, image_count: int, compute_s: float) -> None:
        self._pace.observe(image_count, compute_s)
        self._observer.batch_ran(image_count, compute_s)

    def _admit(self, images: Images, queue: "_Queue[T]", deadline: float | None, now: float) -> None:
        if self.queued_images + len(images) > self._max_queue_images:
            raise OverloadedError(
                f"the queue is full: it holds {self.queued_images} of at most {self._max_queue_images} images",
                retry_after_s=FULL_RETRY_S,
                metadata={"queued_images": self.queued_images, "max_queue_images": self._max_queue_images},
            )
        if deadline is None or self._idle_workers:
            return
        ahead = self._running_images + self._interactive.image_count
        if queue is self._bulk:
            ahead += self._bulk.image_count
        expected_s = self._pace.expect_s(ahead + len(images), workers=self._workers)
        if now + expected_s > deadline:
            raise OverloadedError(
                f"the deadline is {1000 * (deadline - now):.0f} ms away, an answer {1000 * expected_s:.0f} ms",
                retry_after_s=expected_s,
                metadata={"queued_images": self.queued_images},
            )

    def _wake(self) -> None:
        """Put an idle worker to work, from the next turn of the event loop on: who arrives until then joins in."""
        if self._idle_workers and self.queued_images and not self._is_waking:
            self._idle_workers -= 1
            self._is_waking = True
            task = asyncio.create_task(self._work())
            self._tasks.add(task)  # the loop itself keeps only weak references
            task.add_done_callback(self._tasks.discard)

    async def _work(self) -> None:
        """Run batches until nobody waits."""
        self._is_waking = False
        try:
            while batch := self._next_batch():
                self._wake()  # another worker, for what this batch leaves
                await self._answer(batch)
        finally:
            self._idle_workers += 1

    def _next_batch(self) -> list[_Pending[T]]:
        """Interactive calls first, then bulk calls, each in their order, as many as fit and as are this worker's share.

        Those that nobody waits for any more are dropped.
        """
        share = max(SHARE_IMAGES, -(-self.queued_images // (self._idle_workers + 1)))
        queues = [self._interactive, self._bulk]
        if self._passed_over >= PATIENCE_BATCHES:
            queues.reverse()
        batch: list[_Pending[T]] = []
        image_count = 0
        for queue in queues:
            while (pending := queue.first) is not None:
                fits = image_count < share and image_count + len(pending.images) <= self._max_batch_images
                if batch and not (fits and pending.images.shape[1:] == batch[0].images.shape[1:]):
                    break
                queue.leave(pending)
                if self._is_waited_for(pending):
                    batch.append(pending)
                    image_count += len(pending.images)
        has_bulk = any(len(pending.images) > INTERACTIVE_IMAGES for pending in batch)
        self._passed_over = self._passed_over + 1 if self._bulk.image_count and not has_bulk else 0
        return batch

    def _is_waited_for(self, pending: _Pending[T]) -> bool:
        if pending.answered.done():  # cancelled
            return False
        if pending.deadline is not None and self._clock() >= pending.deadline:
            pending.answered.set_exception(DeadlineError("the deadline passed while the call was queued"))
            return False
        return True

    async def _answer(self, batch: list[_Pending[T]]) -> None:
        images = _joined(batch)
        self._running_images += len(images)
        began = self._clock()
        try:
            answers = self._run_now(images) if len(images) <= self._max_inline_images else await self._run(images)
        except Exception as error:
            await self._find_guilty(batch, error)
        else:
            compute_s = self._clock() - began
            self._batch_ran(len(images), compute_s)
            self._hand_out(batch, answers, began, compute_s)
        finally:
            self._running_images -= len(images)

    def _hand_out(self, batch: list[_Pending[T]], answers: T, began: float, compute_s: float) -> None:
        """Give each call that still waits its own part of the answers."""
        batch_images = sum(len(pending.images) for pending in batch)
        start = 0
        for pending in batch:
            stop = start + len(pending.images)
            if not pending.answered.done():
                timing = Timing(began - pending.arrived, compute_s, batch_images)
                self._observer.call_waited(timing.queue_s)
                pending.answered.set_result((answers[start:stop], timing))
            start = stop

    async def _find_guilty(self, batch: list[_Pending[T]], error: Exception) -> None:
        """After a batch failed: run its halves, so that one call's fault stays its own."""
        if len(batch) == 1:
            if not batch[0].answered.done():
                batch[0].answered.set_exception(error)
            return
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            if waiting := [pending for pending in half if self._is_waited_for(pending)]:
                await self._answer(waiting)


class _Queue(Generic[T]):
    """Calls in the order of their arrival, which may leave from anywhere."""

    def __init__(self) -> None:
        self._calls: OrderedDict[_Pending[T], None] = OrderedDict()
        self.image_count = 0

    @property
    def first(self) -> _Pending[T] | None:
        """Who waits longest."""
        return next(iter(self._calls), None)

    def join(self, pending: _Pending[T]) -> None:
        """Stand at the end."""
        self._calls[pending] = None
        self.image_count += len(pending.images)

    def leave(self, pending: _Pending[T]) -> None:
        """Leave, if still there."""
        if pending in self._calls:
            del self._calls[pending]
            self.image_count -= len(pending.images)


def _joined(batch: list[_Pending[T]]) -> Images:
    return batch[0].images if len(batch) == 1 else np.concatenate([pending.images for pending in batch])
