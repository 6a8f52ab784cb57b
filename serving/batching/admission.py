"""Whether a call may join the queue: refused at the door is better than late."""

from dataclasses import dataclass

from serving.batching.pace import Pace
from serving.errors import OverloadedError

SOON_S = 0.05
"""A caller that was refused should not come back sooner."""


@dataclass(frozen=True)
class Limits:
    """How much may wait for a run: whichever is reached first."""

    images: int
    """A bound on memory."""
    work_s: float
    """A bound on waiting: how long the runs would take, at the measured pace."""


@dataclass(frozen=True)
class Backlog:
    """What stands before a call, in images."""

    queued: int
    """All that wait."""
    before: int
    """Those that go first, running or waiting."""
    concurrent_runs: int
    has_idle_worker: bool


def admit(image_count: int, deadline_in_s: float | None, *, backlog: Backlog, limits: Limits, pace: Pace) -> None:
    """Raise OverloadedError when the queue is full, or when the deadline cannot be met at the measured pace.

    An empty queue takes every call, however large.
    """
    if backlog.queued:
        work_s = pace.run_s(backlog.queued) / backlog.concurrent_runs
        if backlog.queued + image_count > limits.images or work_s > limits.work_s:
            raise OverloadedError(
                f"the queue is full: {backlog.queued} images, {1000 * work_s:.0f} ms of work; "
                f"at most {limits.images} images and {1000 * limits.work_s:.0f} ms may wait",
                retry_after_s=max(work_s / 2, SOON_S),
                metadata={"queued_images": backlog.queued, "max_queue_images": limits.images},
            )
    if deadline_in_s is None or backlog.has_idle_worker:
        return
    answer_s = pace.answer_s(ahead=backlog.before, own=image_count, concurrent_runs=backlog.concurrent_runs)
    if answer_s > deadline_in_s:
        raise OverloadedError(
            f"the deadline is {1000 * deadline_in_s:.0f} ms away, an answer {1000 * answer_s:.0f} ms",
            retry_after_s=max(answer_s, SOON_S),
            metadata={"queued_images": backlog.queued},
        )
