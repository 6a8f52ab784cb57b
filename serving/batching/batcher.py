"""Joins the images of concurrent calls into batches: a queue, a limit and a clock.

An idle server never waits. A batch begins when a worker is free and those are there who are known to come; what arrives
meanwhile forms the next one. Knows neither the transport nor onnxruntime. docs/batching.md explains it.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from serving.batching.admission import Backlog, Limits, admit
from serving.batching.crowd import Crowd
from serving.batching.queue import SHARE_IMAGES, Dispatch, Model, Queue, Timing, Waiting, is_interactive
from serving.batching.runner import Answers, Observer, Run, RunElsewhere, Runner
from serving.errors import DeadlineError
from serving.pixels import Images

M = TypeVar("M", bound=Model)
T = TypeVar("T", bound=Answers)


class Batcher(Generic[M, T]):
    """Answers calls in batches with `run`, at most `concurrent_runs` of them at once.

    `run_now` is for what is known to be quick, where that may run in the event loop. A batch has calls of one model
    only, and at most `max_batch_images`. A call stays in one batch unless it has more: `join` then joins its parts.
    A free worker waits for those who are known to come, as `crowd` has learnt, or `max_wait_s` for a batch to fill;
    without either it never waits. `is_lone` tells whether nobody knows of another call that is on its way here: if one
    is, a call takes the next turn of the event loop, together with whoever has come by then.
    """

    def __init__(
        self,
        run: RunElsewhere[M, T],
        run_now: Run[M, T] | None,
        join: Callable[[Sequence[T]], T],
        observer: Observer,
        *,
        max_batch_images: int,
        limits: Limits,
        max_wait_s: float,
        concurrent_runs: int,
        crowd: Crowd | None = None,
        is_lone: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._join_answers = join
        self._max_batch_images = max_batch_images
        self._limits = limits
        self._max_wait_s = max_wait_s
        self._concurrent_runs = self._idle_workers = concurrent_runs
        self._clock = clock
        self._observer = observer
        self._runner = Runner(run, run_now, observer, clock)
        self._queue = Queue[M, T](max_batch_images)
        self._crowd = crowd
        self._is_lone = is_lone
        self._last_arrival = 0.0
        self._is_waking = False
        self._stop_waiting = asyncio.Event()
        self._running_s = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def queued_images(self) -> int:
        """The images that wait for a run."""
        return self._queue.image_count

    @property
    def is_running(self) -> bool:
        """Whether the model runs in a thread, or is about to."""
        return self._idle_workers < self._concurrent_runs

    async def submit(self, model: M, images: Images, deadline: float | None = None) -> tuple[T, Timing]:
        """The answers of `model` for `images`, in their order, and where their time went.

        Raises OverloadedError at once when the queue is full, or when `deadline` (seconds on the clock) cannot be met
        at the pace of the last batches; DeadlineError when it has passed. Cancelling the caller's task takes the images
        out; its neighbours never notice.
        """
        arrived = self._clock()
        if deadline is not None and arrived >= deadline:
            raise DeadlineError("the deadline had passed when the call arrived")
        if self._is_alone(len(images), arrived) and (answer := self._runner.answer_now(model, images)):
            if self._crowd:
                self._crowd.came(1, 1, 0)
                self._crowd.answered(self._clock())
        else:
            self._admit(model, len(images), deadline, arrived)
            self._last_arrival = arrived
            answer = await self._answer_from_queue(model, images, deadline, arrived)
        self._observer.call_waited(answer[1].queue_s)
        return answer

    async def _answer_from_queue(
        self, model: M, images: Images, deadline: float | None, arrived: float
    ) -> tuple[T, Timing]:
        if len(images) <= self._max_batch_images:
            call = self._join(model, images, deadline, arrived)
            try:
                return await call.answered
            except BaseException:
                self._queue.leave(call)  # where a cancelled call may still stand
                raise
        most = self._max_batch_images
        parts = [images[at : at + most] for at in range(0, len(images), most)]
        calls = [self._join(model, part, deadline, arrived) for part in parts]
        try:
            return self._joined(arrived, await asyncio.gather(*(call.answered for call in calls)))
        except BaseException:
            for call in calls:
                self._queue.leave(call)
            raise

    def _join(self, model: M, images: Images, deadline: float | None, arrived: float) -> Waiting[M, T]:
        """Stand in the queue."""
        image_count = len(images)
        answered = asyncio.get_running_loop().create_future()
        call = Waiting(model, images, deadline, arrived, answered, model.pace.work_s(image_count))
        self._queue.join(call)
        self._wake()
        if deadline is not None and deadline - arrived <= self._max_wait_s + model.pace.run_s(image_count):
            self._stop_waiting.set()  # it cannot wait for a batch to fill
        return call

    def _is_alone(self, image_count: int, now: float) -> bool:
        """Whether an interactive call finds an idle server, and nobody else is known to come."""
        is_idle = self._idle_workers > 0 and not self._is_waking and not self._queue.image_count
        is_last = not self._max_wait_s and (self._crowd is None or self._crowd.expected(now) == 1)
        return is_idle and is_last and is_interactive(image_count) and self._is_lone()

    def _joined(self, arrived: float, parts: Sequence[tuple[T, Timing]]) -> tuple[T, Timing]:
        """The answers of a call that was split; its runs, some of them at the same time, count as one."""
        first = parts[0][1]
        compute_s = self._clock() - arrived - first.queue_s
        timing = Timing(first.queue_s, compute_s, first.batch_images, first.dispatch)
        return self._join_answers([answers for answers, _ in parts]), timing

    def _admit(self, model: M, image_count: int, deadline: float | None, now: float) -> None:
        if deadline is None and not self._queue.image_count:
            return  # nothing that could refuse it
        images, queue_s = self._queue.before(image_count)
        running_s = 0.0 if self._idle_workers else self._running_s
        before = Backlog(images, queue_s / self._concurrent_runs, running_s / self._concurrent_runs)
        deadline_in_s = None if deadline is None else deadline - now
        admit(image_count, deadline_in_s, before=before, limits=self._limits, pace=model.pace)

    def _wake(self) -> None:
        """Put an idle worker to work, from the next turn of the event loop on: who arrives until then joins in."""
        if self._idle_workers and self._queue.image_count and not self._is_waking:
            self._idle_workers -= 1
            self._is_waking = True
            self._stop_waiting.clear()
            task = asyncio.create_task(self._work())
            self._tasks.add(task)  # the loop itself keeps only weak references
            task.add_done_callback(self._tasks.discard)
        if self._queue.image_count >= self._max_batch_images:
            self._stop_waiting.set()

    async def _work(self) -> None:
        """Run batches until nobody waits."""
        try:
            try:
                dispatch = await self._wait()
            finally:
                self._is_waking = False
            while batch := self._queue.next_batch(self._idle_workers, self._clock()):
                self._wake()  # another worker, for what this batch leaves
                image_count = sum(len(call.images) for call in batch)
                run_s = batch[0].model.pace.run_s(image_count)
                self._running_s += run_s
                try:
                    await self._runner.answer(batch, "full" if image_count >= self._max_batch_images else dispatch)
                finally:
                    self._running_s -= run_s
                if self._crowd:
                    self._crowd.answered(self._clock())
                dispatch = "freed"
        finally:
            self._idle_workers += 1
            self._wake()

    async def _wait(self) -> Dispatch:
        """Wait for a batch to fill, as long as was asked for or as calls are known to come."""
        if self._max_wait_s:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop_waiting.wait(), self._max_wait_s)
            return "waited"
        return await self._gather(self._crowd) if self._crowd else "idle"

    async def _gather(self, crowd: Crowd) -> Dispatch:
        """Wait for the interactive calls that are known to come, unless bulk is there or a batch is full enough."""
        began = last_arrival = self._clock()
        expected, turns = crowd.expected(began), 0
        while True:
            if self._queue.has_bulk:
                return "idle"
            calls, now = self._queue.interactive_count, self._clock()
            if self._last_arrival > last_arrival:
                last_arrival, turns = self._last_arrival, 0
            is_enough = calls >= expected or self._queue.image_count >= SHARE_IMAGES
            if is_enough or crowd.is_over(since_first_s=now - began, since_last_s=now - last_arrival, turns=turns):
                break
            await asyncio.sleep(0)
            turns += 1
        crowd.came(calls, expected, last_arrival - began)
        if not is_enough:
            return "quiet"
        return "gathered" if calls > 1 else "idle"
