"""How long images take, learnt from the batches that ran."""

KEEP = 0.9  # of what was known, per batch: about the last ten count


class Pace:
    """A moving mean of seconds per image and of seconds per batch; 0 until the first batch has run."""

    def __init__(self) -> None:
        self._image_s = 0.0
        self._batch_s = 0.0

    def observe(self, image_count: int, duration_s: float) -> None:
        """Learn from a batch that took `duration_s`."""
        self._image_s = _blend(self._image_s, duration_s / image_count)
        self._batch_s = _blend(self._batch_s, duration_s)

    def expect_s(self, image_count: int, *, workers: int) -> float:
        """How long until `image_count` images more are answered: `workers` share them, a batch may just have begun."""
        return self._batch_s + image_count * self._image_s / workers


def _blend(known: float, seen: float) -> float:
    return seen if not known else KEEP * known + (1 - KEEP) * seen
