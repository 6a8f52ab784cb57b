"""The calls that wait for a run of the model, and which of them are in the next batch."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from serving.batching.pace import Pace
from serving.errors import DeadlineError

INTERACTIVE_ROWS = 16
"""A call of so many rows or fewer goes before larger ones."""

PATIENCE_BATCHES = 4
"""A bulk call is passed over by so many batches at most."""

SHARE_ROWS = 64
"""A queue of more rows is shared among the idle run slots; less is not worth a second batch."""

Dispatch = Literal["idle", "full", "freed"]
"""Why a batch began when it did; docs/batching.md explains each."""

Tensors: TypeAlias = Sequence[bytes | memoryview]
"""The rows of every input, in the order of the model's signature: C order, little-endian."""

Outputs: TypeAlias = tuple[NDArray[np.generic], ...]
"""Every output of a run, whose first dimension is the batch's rows."""


class Model(Protocol):
    """What runs batches."""

    @property
    def pace(self) -> Pace:
        """How long its runs take."""

    def predict(self, tensors: Tensors) -> Outputs:
        """Run a batch."""

    def encode(self, outputs: Outputs, row_counts: Sequence[int]) -> list[bytes]:
        """The responses to calls of so many rows each, one after the other in `outputs`."""


class Caller(Protocol):
    """The call behind what waits: ends with a response or an error, or by itself."""

    queued: float
    deadline: float | None
    is_over: bool
    on_failure: Callable[[], object] | None

    def respond(self, content: bytes, ran: "Ran") -> None:
        """End with a response."""

    def fail(self, error: BaseException) -> None:
        """End with an error."""


M = TypeVar("M", bound=Model)


class Ran(NamedTuple):
    """A run of the model, and where the time of the calls in it went. Times are seconds on the clock."""

    began: float
    """When its batch was put together."""
    ended: float
    """When the responses were there."""
    compute_s: float
    """How long the model ran."""
    row_count: int
    """The rows of the batch."""
    dispatch: Dispatch
    """Why it began when it did."""

    def timing(self, arrived: float, queued: float) -> str:
        """The serving-timing trailer of a call that arrived and then joined the queue.

        queue, batch and compute together are the time since it arrived.
        """
        queue_us, compute_us = 1e6 * (self.began - queued), 1e6 * self.compute_s
        batch_us = 1e6 * (self.ended - arrived) - queue_us - compute_us
        return (
            f"queue_us={queue_us:.0f} batch_us={batch_us:.0f} compute_us={compute_us:.0f} "
            f"batch_images={self.row_count} dispatch={self.dispatch}"
        )


class Waiting(Generic[M]):
    """A call, or a part of one, that waits for a run."""

    __slots__ = ("_queue", "caller", "is_taken", "model", "part", "queued", "row_count", "tensors", "work_s")

    def __init__(
        self,
        queue: "Queue[M]",
        caller: Caller,
        model: M,
        tensors: Tensors,
        row_count: int,
        *,
        part: Callable[[Outputs, Ran], None] | None = None,
        is_first: bool = True,
    ) -> None:
        self._queue = queue
        self.caller = caller
        self.model = model
        self.tensors = tensors
        self.row_count = row_count
        self.part = part
        """Takes the outputs, where they are only a part of what the call waits for."""
        self.queued = caller.queued if is_first else None
        """When the call joined; None for all parts of a call but the first, so that it counts once."""
        self.work_s = model.pace.work_s(row_count)
        """What it adds to the work that waits."""
        self.is_taken = False
        """Whether it is in a batch, or has left."""

    def leave(self) -> None:
        """Leave the queue, if still there."""
        if not self.is_taken:
            self.is_taken = True
            self._queue.lane(self.row_count).count(self, -1)

    def is_waited_for(self, now: float) -> bool:
        """Whether the model should run for it; a call whose deadline has passed fails."""
        caller = self.caller
        if caller.deadline is not None and now >= caller.deadline:
            caller.fail(DeadlineError("the deadline passed while the call was queued"))
        return not caller.is_over


class Queue(Generic[M]):
    """Two lanes, in the order of arrival: interactive calls go before bulk calls, which are never passed over for long.

    A call may leave from anywhere.
    """

    def __init__(self, max_batch_rows: int) -> None:
        self._max_batch_rows = max_batch_rows
        self._interactive = _Lane[M]()
        self._bulk = _Lane[M]()
        self._passed_over = 0

    @property
    def row_count(self) -> int:
        """All rows that wait."""
        return self._interactive.row_count + self._bulk.row_count

    def before(self, row_count: int) -> tuple[int, float]:
        """The rows that go before a call of so many that arrives now, and the seconds that running them takes."""
        first, second = self._interactive, self._bulk
        if row_count <= INTERACTIVE_ROWS:
            return first.row_count, first.work_s
        return first.row_count + second.row_count, first.work_s + second.work_s

    def join(self, waiting: Waiting[M]) -> None:
        """Stand at the end of its lane."""
        lane = self.lane(waiting.row_count)
        lane.waiting.append(waiting)
        lane.count(waiting, 1)

    def next_batch(self, idle_slots: int, now: float) -> list[Waiting[M]]:
        """As many calls of one model as fit and as are one run slot's share, while `idle_slots` more could take some.

        The first one says of which model. A batch that begins with interactive calls takes no bulk calls: they would
        wait for those too. Calls that nobody waits for any more are dropped.
        """
        share = max(SHARE_ROWS, -(-self.row_count // (idle_slots + 1)))
        lanes = [self._interactive, self._bulk]
        if self._passed_over >= PATIENCE_BATCHES:
            lanes.reverse()
        batch: list[Waiting[M]] = []
        for lane in lanes:
            batch = lane.take(share, self._max_batch_rows, now)
            if batch:
                break
        is_bulk = bool(batch) and batch[0].row_count > INTERACTIVE_ROWS
        self._passed_over = self._passed_over + 1 if self._bulk.row_count and not is_bulk else 0
        return batch

    def lane(self, row_count: int) -> "_Lane[M]":
        """Where a call of so many rows waits."""
        return self._interactive if row_count <= INTERACTIVE_ROWS else self._bulk


class _Lane(Generic[M]):
    def __init__(self) -> None:
        self.waiting: deque[Waiting[M]] = deque()
        """Those that wait, and those that have left."""
        self.row_count = 0
        self.work_s = 0.0

    def count(self, waiting: Waiting[M], sign: int) -> None:
        """Count one that joins (1) or leaves (-1)."""
        self.row_count += sign * waiting.row_count
        self.work_s = self.work_s + sign * waiting.work_s if self.row_count else 0.0  # rounding must not add up

    def take(self, share: int, max_rows: int, now: float) -> list[Waiting[M]]:
        """The calls of the first one's model, `share` rows or a little more, and `max_rows` at most."""
        batch: list[Waiting[M]] = []
        others: list[Waiting[M]] = []
        row_count = 0
        while self.waiting and row_count < share:
            first = self.waiting.popleft()
            if first.is_taken:
                continue
            if batch and first.model is not batch[0].model:
                others.append(first)
                continue
            if batch and row_count + first.row_count > max_rows:
                others.append(first)
                break
            first.leave()
            if first.is_waited_for(now):
                batch.append(first)
                row_count += first.row_count
        self.waiting.extendleft(reversed(others))
        return batch
