"""The calls that wait for a run of the model."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from serving.pixels import Images

S = TypeVar("S")
T = TypeVar("T")


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
class Waiting(Generic[S, T]):
    """A call that waits; `answered` is done when it is answered, has failed, or nobody waits for it any more."""

    session: S
    """What it was checked against, and what is to answer it."""
    images: Images
    deadline: float | None
    arrived: float
    answered: "asyncio.Future[tuple[T, Timing]]"

    def fail(self, error: BaseException) -> None:
        """Answer with an error, if anybody still waits."""
        if not self.answered.done():
            self.answered.set_exception(error)


class Queue(Generic[S, T]):
    """Calls in the order of their arrival, which may leave from anywhere."""

    def __init__(self) -> None:
        self._calls: OrderedDict[Waiting[S, T], None] = OrderedDict()
        self.image_count = 0

    @property
    def first(self) -> Waiting[S, T] | None:
        """Who waits longest."""
        return next(iter(self._calls), None)

    def join(self, call: Waiting[S, T]) -> None:
        """Stand at the end."""
        self._calls[call] = None
        self.image_count += len(call.images)

    def leave(self, call: Waiting[S, T]) -> None:
        """Leave, if still there."""
        if call in self._calls:
            del self._calls[call]
            self.image_count -= len(call.images)
