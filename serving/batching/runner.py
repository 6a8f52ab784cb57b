"""Runs a batch and gives each call its part; when a run fails, finds the call at fault."""

from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, Self, TypeVar

import numpy as np

from serving.batching.queue import Dispatch, Model, Timing, Waiting
from serving.errors import DeviceMemoryError, ServingError
from serving.pixels import Images


class Answers(Protocol):
    """What a run gives: one answer an image, cut like an array."""

    def __getitem__(self, images: slice, /) -> Self:
        """The answers of some of the images."""


class Observer(Protocol):
    """Is told what happened."""

    def call_waited(self, queue_s: float) -> None:
        """A call was answered; it had waited for `queue_s` until its batch began."""

    def batch_ran(self, image_count: int, compute_s: float, dispatch: Dispatch) -> None:
        """The model answered a batch."""


M = TypeVar("M", bound=Model)
T = TypeVar("T", bound=Answers)

Run = Callable[[M, Images], tuple[T, float]]
"""The answers of a model for images, uint8 (image, row, column), one an image, and the seconds that the model took."""
RunElsewhere = Callable[[M, Images], Awaitable[tuple[T, float]]]
"""The same, without holding up the event loop."""


class Runner(Generic[M, T]):
    """Runs with `run`, or with `run_now` (if there is one) what is known to be quick; the pace learns from it."""

    def __init__(
        self,
        run: RunElsewhere[M, T],
        run_now: Run[M, T] | None,
        observer: Observer,
        clock: Callable[[], float],
    ) -> None:
        self._run = run
        self._run_now = run_now
        self._observer = observer
        self._clock = clock

    def answer_now(self, model: M, images: Images) -> tuple[T, Timing] | None:
        """Answer a call by itself and at once, if that is known to be quick."""
        began = self._clock()
        ran = self._run_if_quick(model, images)
        if ran is None:
            return None
        answers, compute_s = ran
        timing = Timing(0.0, compute_s, len(images), "idle")
        self._ran(model, timing, began)
        return answers, timing

    async def answer(self, batch: list[Waiting[M, T]], dispatch: Dispatch) -> None:
        """Answer every call of the batch, one way or the other."""
        began = self._clock()
        try:
            model = batch[0].model
            images = batch[0].images if len(batch) == 1 else np.concatenate([call.images for call in batch])
            answers, compute_s = self._run_if_quick(model, images) or await self._run(model, images)
            timing = Timing(0.0, compute_s, len(images), dispatch)
            self._hand_out(batch, answers, began, timing)
        except DeviceMemoryError as error:
            await self._find_guilty(batch, error, dispatch)  # half as many may find room
        except ServingError as error:
            for call in batch:
                call.fail(error)
        except Exception as error:
            await self._find_guilty(batch, error, dispatch)
        except BaseException as error:
            for call in batch:
                call.fail(error)
            raise
        else:
            self._ran(batch[0].model, timing, began)

    def _run_if_quick(self, model: M, images: Images) -> tuple[T, float] | None:
        if self._run_now and len(images) <= model.pace.quick_images:
            return self._run_now(model, images)
        return None

    def _hand_out(self, batch: list[Waiting[M, T]], answers: T, began: float, ran: Timing) -> None:
        """Give each call that still waits its own part of the answers."""
        start = 0
        for call in batch:
            stop = start + len(call.images)
            if not call.answered.done():
                timing = Timing(began - call.arrived, ran.compute_s, ran.batch_images, ran.dispatch)
                call.answered.set_result((answers[start:stop], timing))
            start = stop

    def _ran(self, model: M, timing: Timing, began: float) -> None:
        model.pace.observe(timing.batch_images, self._clock() - began)
        self._observer.batch_ran(timing.batch_images, timing.compute_s, timing.dispatch)

    async def _find_guilty(self, batch: list[Waiting[M, T]], error: Exception, dispatch: Dispatch) -> None:
        """After a batch failed: run its halves, so that one call's fault stays its own."""
        if len(batch) == 1:
            batch[0].fail(error)
            return
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            if waiting := [call for call in half if call.is_waited_for(self._clock())]:
                await self.answer(waiting, dispatch)
