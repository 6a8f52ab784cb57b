"""Joins the rows of concurrent calls into batches: a queue, a limit and a clock.

An idle server never waits: a batch begins in the turn of the event loop after the first call, with all that arrived
until then. What arrives while the model runs forms the next one. What can be done once a batch is not done once a call.
Knows neither the transport nor onnxruntime. docs/batching.md explains it.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, Protocol, TypeVar

import numpy as np

from serving.batching.admission import Backlog, Limits, admit
from serving.batching.queue import Caller, Dispatch, Model, Outputs, Queue, Ran, Tensors, Waiting
from serving.errors import DeadlineError, DeviceMemoryError, ServingError

M = TypeVar("M", bound=Model)
T = TypeVar("T")

log = logging.getLogger(__name__)


class Observer(Protocol):
    """Counts what happened."""

    def calls_waited(self, began: float, queued: Sequence[float]) -> None:
        """Calls that had joined the queue then were in a batch that `began`."""

    def batch_ran(self, row_count: int, compute_s: float, dispatch: Dispatch) -> None:
        """The model ran a batch."""


class InThread(Protocol):
    """Calls a function in another thread; the event loop gets what it returned or raised."""

    def __call__(self, work: Callable[[], T], /) -> "asyncio.Future[T]":
        """Begin."""


class Batcher(Generic[M]):
    """Runs calls in batches, at most `concurrent_runs` of them at once.

    Runs that are known to be quick happen in the event loop if `runs_inline`, others `in_thread`. A batch has calls of
    one model only, and at most `max_batch_rows`. A call stays in one batch unless it has more rows.
    """

    def __init__(
        self,
        in_thread: InThread,
        observer: Observer,
        *,
        runs_inline: bool,
        max_batch_rows: int,
        limits: Limits,
        concurrent_runs: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._in_thread = in_thread
        self._observer = observer
        self._runs_inline = runs_inline
        self._max_batch_rows = max_batch_rows
        self._limits = limits
        self._concurrent_runs = self._idle_slots = concurrent_runs
        self._clock = clock
        self._queue = Queue[M](max_batch_rows)
        self._halves: list[list[Waiting[M]]] = []
        """Of batches that failed: each is run by itself, so that one call's fault stays its own."""
        self._is_waking = False
        self._running_s = 0.0

    @property
    def queued_rows(self) -> int:
        """The rows that wait for a run."""
        return self._queue.row_count

    @property
    def is_running(self) -> bool:
        """Whether the model runs in a thread."""
        return self._idle_slots < self._concurrent_runs

    def submit(self, caller: Caller, model: M, tensors: Tensors, row_count: int) -> None:
        """Have `model` respond to a call; when the call ends otherwise, its rows leave and its neighbours never notice.

        Raises OverloadedError when the queue is full, or when the call's deadline cannot be met at the pace of the last
        batches; DeadlineError when it has passed.
        """
        now = self._clock()
        if caller.deadline is not None and now >= caller.deadline:
            raise DeadlineError("the deadline had passed when the call arrived")
        self._admit(caller, model, row_count, now)
        caller.queued = now
        if row_count <= self._max_batch_rows:
            waiting = Waiting(self._queue, caller, model, tensors, row_count)
            caller.on_failure = waiting.leave
            self._queue.join(waiting)
        else:
            self._split(caller, model, tensors, row_count)
        self._wake()

    def _split(self, caller: Caller, model: M, tensors: Tensors, row_count: int) -> None:
        """Let a call that has more rows than a batch wait in parts."""
        views = [memoryview(tensor).cast("B") for tensor in tensors]
        row_bytes = [len(view) // row_count for view in views]
        starts = range(0, row_count, self._max_batch_rows)
        parts = _Parts(caller, model, row_count, len(starts))
        for index, start in enumerate(starts):
            stop = min(start + self._max_batch_rows, row_count)
            rows = [view[size * start : size * stop] for view, size in zip(views, row_bytes, strict=True)]
            take = partial(parts.take, index)
            part = Waiting(self._queue, caller, model, rows, stop - start, part=take, is_first=not index)
            parts.waiting.append(part)
            self._queue.join(part)
        caller.on_failure = parts.leave

    def _admit(self, caller: Caller, model: M, row_count: int, now: float) -> None:
        if caller.deadline is None and not self._queue.row_count:
            return  # nothing that could reject it
        rows, queue_s = self._queue.before(row_count)
        running_s = 0.0 if self._idle_slots else self._running_s
        before = Backlog(rows, queue_s / self._concurrent_runs, running_s / self._concurrent_runs)
        deadline_in_s = None if caller.deadline is None else caller.deadline - now
        admit(row_count, deadline_in_s, before=before, limits=self._limits, pace=model.pace)

    def _wake(self, dispatch: Dispatch = "idle") -> None:
        """Fill the idle run slots from the next turn of the event loop on: what arrives until then joins in."""
        if self._idle_slots and not self._is_waking:
            self._is_waking = True
            asyncio.get_running_loop().call_soon(self._fill, dispatch)

    def _fill(self, dispatch: Dispatch) -> None:
        """Begin runs while there is a slot and someone waits."""
        self._is_waking = False
        while self._idle_slots and (batch := self._next_batch()):
            row_count = sum([waiting.row_count for waiting in batch])
            why: Dispatch = "full" if row_count >= self._max_batch_rows else dispatch
            began = self._clock()
            work = partial(_run, batch, row_count, began, why)
            if self._runs_inline and row_count <= batch[0].model.pace.quick_rows:
                try:
                    self._end(batch, began, work)
                finally:
                    if self._queue.row_count or self._halves:
                        self._wake("freed")  # first let the event loop read what has arrived meanwhile
                return
            self._idle_slots -= 1
            run_s = batch[0].model.pace.run_s(row_count)
            self._running_s += run_s
            self._in_thread(work).add_done_callback(partial(self._returned, batch, began, run_s))

    def _next_batch(self) -> list[Waiting[M]]:
        if not self._halves:
            return self._queue.next_batch(self._idle_slots - 1, self._clock())
        half = self._halves.pop()
        return [waiting for waiting in half if waiting.is_waited_for(self._clock())] or self._next_batch()

    def _returned(self, batch: list[Waiting[M]], began: float, run_s: float, ran: "asyncio.Future[_Run]") -> None:
        self._idle_slots += 1
        self._running_s -= run_s
        try:
            self._end(batch, began, ran.result)
        finally:
            self._fill("freed")

    def _end(self, batch: list[Waiting[M]], began: float, run: "Callable[[], _Run]") -> None:
        """End every call of a batch with its response or error, or run the batch's halves."""
        try:
            contents, outputs, ran = run()
        except (Exception, asyncio.CancelledError) as error:
            is_final = isinstance(error, ServingError | asyncio.CancelledError)
            if (is_final and not isinstance(error, DeviceMemoryError)) or len(batch) == 1:  # half may find memory
                for waiting in batch:
                    waiting.caller.fail(error)
            else:
                middle = len(batch) // 2
                self._halves += [batch[middle:], batch[:middle]]
            return
        ended = self._clock()
        ran = ran._replace(ended=ended)
        start = 0
        for waiting, content in zip(batch, contents, strict=True):
            stop = start + waiting.row_count
            try:
                if waiting.part is None:
                    waiting.caller.respond(content, ran)
                else:
                    waiting.part(tuple(output[start:stop] for output in outputs), ran)
            except Exception:
                log.exception("a response cannot be sent")  # the others can
            start = stop
        batch[0].model.pace.observe(ran.row_count, ended - began)
        self._observer.batch_ran(ran.row_count, ran.compute_s, ran.dispatch)
        self._observer.calls_waited(began, [waiting.queued for waiting in batch if waiting.queued is not None])


_Run = tuple[list[bytes], Outputs, Ran]


def _run(batch: list[Waiting[M]], row_count: int, began: float, dispatch: Dispatch) -> _Run:
    """Run the model on a batch and encode the responses, in whatever thread."""
    model = batch[0].model
    tensors = batch[0].tensors
    if len(batch) > 1:
        tensors = [b"".join(rows) for rows in zip(*(waiting.tensors for waiting in batch), strict=True)]
    compute_began = time.perf_counter()
    outputs = model.predict(tensors)
    compute_s = time.perf_counter() - compute_began
    contents = model.encode(outputs, [waiting.row_count for waiting in batch])
    return contents, outputs, Ran(began, began, compute_s, row_count, dispatch)


class _Parts(Generic[M]):
    """A call that waits in parts; its runs, some of them at the same time, count as one."""

    def __init__(self, caller: Caller, model: M, row_count: int, part_count: int) -> None:
        self._caller = caller
        self._model = model
        self._row_count = row_count
        self._outputs: list[Outputs | None] = [None] * part_count
        self._first: Ran | None = None
        self.waiting: list[Waiting[M]] = []

    def take(self, index: int, outputs: Outputs, ran: Ran) -> None:
        """The outputs of a part; with the last one the call is responded to."""
        self._outputs[index] = outputs
        first = self._first = self._first or ran
        if all(self._outputs) and not self._caller.is_over:
            joined = tuple(np.concatenate(parts) for parts in zip(*filter(None, self._outputs), strict=True))
            (content,) = self._model.encode(joined, [self._row_count])
            compute_s = ran.ended - first.began
            self._caller.respond(content, first._replace(ended=ran.ended, compute_s=compute_s))

    def leave(self) -> None:
        """Leave the queue with every part that is still there."""
        for waiting in self.waiting:
            waiting.leave()
