"""Joins the images of concurrent calls into batches: a queue, a limit and a clock.

An idle server never waits: a batch starts as soon as a worker is free, and what arrives meanwhile forms the next one.
Interactive calls (few images) go before bulk calls, which are never passed over for long. Knows neither the transport
nor onnxruntime.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, Self, TypeVar

import numpy as np

from serving.errors import DeadlineError, OverloadedError, ServingError
from serving.pace import Pace
from serving.pixels import FULL_RETRY_S, Images
from serving.queue import Queue, Timing, Waiting

INTERACTIVE_IMAGES = 16
"""A call of so many images or fewer goes before larger ones."""

PATIENCE_BATCHES = 4
"""A bulk call is passed over by so many batches at most."""

SHARE_IMAGES = 64
"""A queue of more images is shared among the idle workers; less is not worth a second batch."""

INLINE_S = 0.0005
"""What is known to run so quickly may run in the event loop: a thread and back would cost as much."""


class Answers(Protocol):
    """What a run gives: one answer an image, cut like an array."""

    def __getitem__(self, images: slice, /) -> Self:
        """The answers of some of the images."""


class Observer(Protocol):
    """Is told what happened."""

    def call_waited(self, queue_s: float) -> None:
        """A call was answered; it had waited for `queue_s` until its batch began."""

    def batch_ran(self, image_count: int, compute_s: float) -> None:
        """The model answered a batch."""


S = TypeVar("S")
T = TypeVar("T", bound=Answers)


class Batcher(Generic[S, T]):
    """Runs batches with `run`, at most `concurrent_runs` of them at once.

    `run` takes a session and images, uint8 (image, row, column), and gives one answer an image. A call's images stay
    together, so all its answers come from one run. A batch has calls of one session only. When nobody waits and a
    worker is idle, an interactive call that is known to be quick is run by `run_now` where it arrives, if there is a
    `run_now`.
    """

    def __init__(
        self,
        run: Callable[[S, Images], Awaitable[T]],
        run_now: Callable[[S, Images], T] | None,
        observer: Observer,
        *,
        max_batch_images: int,
        max_queue_images: int,
        concurrent_runs: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run = run
        self._run_now = run_now
        self._observer = observer
        self._max_batch_images = max_batch_images
        self._max_queue_images = max_queue_images
        self._concurrent_runs = self._idle_workers = concurrent_runs
        self._clock = clock
        self._interactive = Queue[S, T]()
        self._bulk = Queue[S, T]()
        self._is_waking = False
        self._passed_over = 0
        self._running_images = 0
        self._pace = Pace()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def queued_images(self) -> int:
        """The images that wait for a run."""
        return self._interactive.image_count + self._bulk.image_count

    async def submit(self, session: S, images: Images, deadline: float | None = None) -> tuple[T, Timing]:
        """The answers of `session` for `images`, in their order, and where their time went.

        Raises OverloadedError at once when the queue is full, or when `deadline` (seconds on the clock) cannot be met
        at the pace of the last batches; DeadlineError when it has passed. Cancelling the caller's task takes the images
        out; its neighbours never notice.
        """
        arrived = self._clock()
        if deadline is not None and arrived >= deadline:
            raise DeadlineError("the deadline had passed when the call arrived")
        is_interactive = len(images) <= INTERACTIVE_IMAGES
        if is_interactive and self._run_now and self._may_run_at_once(images):
            return self._answer_now(self._run_now, session, images, arrived)
        queue = self._interactive if is_interactive else self._bulk
        self._admit(images, queue, deadline, arrived)
        call = Waiting[S, T](session, images, deadline, arrived, asyncio.get_running_loop().create_future())
        queue.join(call)
        self._wake()
        try:
            return await call.answered
        finally:
            queue.leave(call)  # where a cancelled call may still stand

    def _may_run_at_once(self, images: Images) -> bool:
        is_idle = self._idle_workers and not self.queued_images
        return bool(is_idle) and self._pace.is_quick(len(images), INLINE_S)

    def _answer_now(
        self, run_now: Callable[[S, Images], T], session: S, images: Images, arrived: float
    ) -> tuple[T, Timing]:
        answers = run_now(session, images)
        timing = Timing(0.0, self._clock() - arrived, len(images))
        self._batch_ran(timing)
        self._observer.call_waited(0.0)
        return answers, timing

    def _admit(self, images: Images, queue: Queue[S, T], deadline: float | None, now: float) -> None:
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
        expected_s = self._pace.expect_s(ahead=ahead, own=len(images), concurrent_runs=self._concurrent_runs)
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
                image_count = sum(len(call.images) for call in batch)
                self._running_images += image_count
                try:
                    await self._answer(batch)
                finally:
                    self._running_images -= image_count
        finally:
            self._idle_workers += 1
            self._wake()

    def _next_batch(self) -> list[Waiting[S, T]]:
        """As many calls as fit and as are this worker's share, each queue in its order.

        A batch that begins with interactive calls takes no bulk calls: they would wait for those too. Calls that nobody
        waits for any more are dropped.
        """
        share = max(SHARE_IMAGES, -(-self.queued_images // (self._idle_workers + 1)))
        queues = [self._interactive, self._bulk]
        if self._passed_over >= PATIENCE_BATCHES:
            queues.reverse()
        batch: list[Waiting[S, T]] = []
        image_count = 0
        for queue in queues:
            if batch and queue is self._bulk:
                break
            while (call := queue.first) is not None:
                fits = image_count < share and image_count + len(call.images) <= self._max_batch_images
                if batch and not (fits and call.session is batch[0].session):
                    break
                queue.leave(call)
                if self._is_waited_for(call):
                    batch.append(call)
                    image_count += len(call.images)
        has_bulk = any(len(call.images) > INTERACTIVE_IMAGES for call in batch)
        self._passed_over = self._passed_over + 1 if self._bulk.image_count and not has_bulk else 0
        return batch

    def _is_waited_for(self, call: Waiting[S, T]) -> bool:
        if call.deadline is not None and self._clock() >= call.deadline:
            call.fail(DeadlineError("the deadline passed while the call was queued"))
        return not call.answered.done()

    async def _answer(self, batch: list[Waiting[S, T]]) -> None:
        """Answer every call of the batch, one way or the other."""
        began = self._clock()
        try:
            images = batch[0].images if len(batch) == 1 else np.concatenate([call.images for call in batch])
            answers = await self._run(batch[0].session, images)
            timing = Timing(0.0, self._clock() - began, len(images))
            self._hand_out(batch, answers, began, timing)
        except ServingError as error:
            for call in batch:
                call.fail(error)
        except Exception as error:
            await self._find_guilty(batch, error)
        except BaseException as error:
            for call in batch:
                call.fail(error)
            raise
        else:
            self._batch_ran(timing)

    def _hand_out(self, batch: list[Waiting[S, T]], answers: T, began: float, ran: Timing) -> None:
        """Give each call that still waits its own part of the answers."""
        start = 0
        for call in batch:
            stop = start + len(call.images)
            if not call.answered.done():
                timing = Timing(began - call.arrived, ran.compute_s, ran.batch_images)
                call.answered.set_result((answers[start:stop], timing))
                self._observer.call_waited(timing.queue_s)
            start = stop

    def _batch_ran(self, timing: Timing) -> None:
        self._pace.observe(timing.batch_images, timing.compute_s)
        self._observer.batch_ran(timing.batch_images, timing.compute_s)

    async def _find_guilty(self, batch: list[Waiting[S, T]], error: Exception) -> None:
        """After a batch failed: run its halves, so that one call's fault stays its own."""
        if len(batch) == 1:
            batch[0].fail(error)
            return
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            if waiting := [call for call in half if self._is_waited_for(call)]:
                await self._answer(waiting)
