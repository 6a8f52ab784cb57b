"""The calls that wait for a run of the model, and who goes next."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

from serving.batching.pace import Pace
from serving.errors import DeadlineError
from serving.pixels import Images

INTERACTIVE_IMAGES = 16
"""A call of so many images or fewer goes before larger ones."""

PATIENCE_BATCHES = 4
"""A bulk call is passed over by so many batches at most."""

SHARE_IMAGES = 64
"""A queue of more images is shared among the idle workers; less is not worth a second batch."""

Dispatch = Literal["idle", "gathered", "quiet", "waited", "full", "freed"]
"""Why a batch began when it did; docs/batching.md explains each."""


class Model(Protocol):
    """What answers calls."""

    @property
    def pace(self) -> Pace:
        """How long its runs take."""


M = TypeVar("M", bound=Model)
T = TypeVar("T")


class Timing(NamedTuple):
    """Where the time of a call went, in seconds."""

    queue_s: float
    """From its arrival in the queue until its batch was put together."""
    compute_s: float
    """The run of the model."""
    batch_images: int
    """The images of that run."""
    dispatch: Dispatch
    """Why the run began when it did."""


@dataclass(eq=False, slots=True)
class Waiting(Generic[M, T]):
    """A call that waits; `answered` is done when it is answered, has failed, or nobody waits for it any more."""

    model: M
    """What is to answer it."""
    images: Images
    deadline: float | None
    arrived: float
    answered: "asyncio.Future[tuple[T, Timing]]"
    work_s: float
    """What it adds to the work that waits."""

    def fail(self, error: BaseException) -> None:
        """Answer with an error, if anybody still waits."""
        if not self.answered.done():
            self.answered.set_exception(error)

    def is_waited_for(self, now: float) -> bool:
        """Whether the model should run for it; a call whose deadline has passed fails."""
        if self.deadline is not None and now >= self.deadline:
            self.fail(DeadlineError("the deadline passed while the call was queued"))
        return not self.answered.done()


class Queue(Generic[M, T]):
    """Two lanes, in the order of arrival: interactive calls go before bulk calls, which are never passed over for long.

    A call may leave from anywhere.
    """

    def __init__(self, max_batch_images: int) -> None:
        self._max_batch_images = max_batch_images
        self._interactive = _Lane[M, T]()
        self._bulk = _Lane[M, T]()
        self._passed_over = 0

    @property
    def image_count(self) -> int:
        """All images that wait."""
        return self._interactive.image_count + self._bulk.image_count

    @property
    def interactive_count(self) -> int:
        """The interactive calls that wait."""
        return len(self._interactive.calls)

    @property
    def has_bulk(self) -> bool:
        """Whether a bulk call waits."""
        return bool(self._bulk.calls)

    def before(self, image_count: int) -> tuple[int, float]:
        """The images that go before a call of so many that comes now, and the seconds that running them takes."""
        first, second = self._interactive, self._bulk
        if is_interactive(image_count):
            return first.image_count, first.work_s
        return first.image_count + second.image_count, first.work_s + second.work_s

    def join(self, call: Waiting[M, T]) -> None:
        """Stand at the end of its lane."""
        self._lane(call).join(call)

    def leave(self, call: Waiting[M, T]) -> None:
        """Leave, if still there."""
        self._lane(call).leave(call)

    def next_batch(self, idle_workers: int, now: float) -> list[Waiting[M, T]]:
        """As many calls of one model as fit and as are one worker's share, while `idle_workers` more could take some.

        The first one says of which model. A batch that begins with interactive calls takes no bulk calls: they would
        wait for those too. Calls that nobody waits for any more are dropped.
        """
        share = max(SHARE_IMAGES, -(-self.image_count // (idle_workers + 1)))
        lanes = [self._interactive, self._bulk]
        if self._passed_over >= PATIENCE_BATCHES:
            lanes.reverse()
        batch: list[Waiting[M, T]] = []
        image_count = 0
        for lane in lanes:
            if batch and lane is self._bulk:
                break
            for call in list(lane.calls):
                if batch and call.model is not batch[0].model:
                    continue
                if batch and (image_count >= share or image_count + len(call.images) > self._max_batch_images):
                    break
                lane.leave(call)
                if call.is_waited_for(now):
                    batch.append(call)
                    image_count += len(call.images)
        takes_bulk = any(not is_interactive(len(call.images)) for call in batch)
        self._passed_over = self._passed_over + 1 if self.has_bulk and not takes_bulk else 0
        return batch

    def _lane(self, call: Waiting[M, T]) -> "_Lane[M, T]":
        return self._interactive if is_interactive(len(call.images)) else self._bulk


def is_interactive(image_count: int) -> bool:
    """Whether a call of so many images goes before bulk calls."""
    return image_count <= INTERACTIVE_IMAGES


class _Lane(Generic[M, T]):
    def __init__(self) -> None:
        self.calls: OrderedDict[Waiting[M, T], None] = OrderedDict()
        self.image_count = 0
        self.work_s = 0.0

    def join(self, call: Waiting[M, T]) -> None:
        self.calls[call] = None
        self.image_count += len(call.images)
        self.work_s += call.work_s

    def leave(self, call: Waiting[M, T]) -> None:
        if call in self.calls:
            del self.calls[call]
            self.image_count -= len(call.images)
            self.work_s = self.work_s - call.work_s if self.calls else 0.0  # so that rounding does not add up
