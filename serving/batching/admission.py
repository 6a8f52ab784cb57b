"""Whether a call may join the queue: refused at the door is better than late."""

from dataclasses import dataclass
from typing import NamedTuple

from serving.batching.pace import Pace
from serving.errors import OverloadedError

SOON_S = 0.05
"""A caller that was refused should not come back sooner."""


@dataclass(frozen=True)
class Limits:
    """How much may wait before a call: whichever is reached first."""

    images: int
    """A bound on memory."""
    work_s: float
    """A bound on waiting: how long the runs would take, at the measured pace."""


class Backlog(NamedTuple):
    """What goes before a call."""

    images: int
    """Those that wait."""
    queue_s: float
    """Until those have been run."""
    running_s: float
    """Until a worker is free for them; 0 where one is."""


def admit(image_count: int, deadline_in_s: float | None, *, before: Backlog, limits: Limits, pace: Pace) -> None:
    """Raise OverloadedError when the queue is full, or when the deadline cannot be met at the measured pace.

    A call that nobody waits before is taken, however large.
    """
    if before.images and (before.images + image_count > limits.images or before.queue_s > limits.work_s):
        raise OverloadedError(
            f"the queue is full: {before.images} images wait before this call, {1000 * before.queue_s:.0f} ms of work; "
            f"at most {limits.images} images and {1000 * limits.work_s:.0f} ms may",
            retry_after_s=max(before.queue_s / 2, SOON_S),
            metadata={"queued_images": before.images, "max_queue_images": limits.images},
        )
    before_s = before.queue_s + before.running_s
    if deadline_in_s is None or not before_s:
        return
    answer_s = pace.answer_s(image_count, before_s=before_s)
    if answer_s > deadline_in_s:
        raise OverloadedError(
            f"the deadline is {1000 * deadline_in_s:.0f} ms away, an answer {1000 * answer_s:.0f} ms",
            retry_after_s=max(answer_s, SOON_S),
            metadata={"queued_images": before.images},
        )
