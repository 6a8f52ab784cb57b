"""How long images take, learnt from the batches that ran."""

KEEP = 0.9  # of what was known, per batch: about the last ten count


class Pace:
    """Decayed sums over the batches that ran: a batch counts by its images, and one slow run is soon forgotten."""

    def __init__(self) -> None:
        self._batches = 0.0
        self._images = 0.0
        self._seconds = 0.0

    def observe(self, image_count: int, duration_s: float) -> None:
        """Learn from a batch that took `duration_s`."""
        self._batches = KEEP * self._batches + 1
        self._images = KEEP * self._images + image_count
        self._seconds = KEEP * self._seconds + duration_s

    def is_quick(self, image_count: int, within_s: float) -> bool:
        """Whether a run of so many images is known to take no longer than that."""
        return self._images > 0 and image_count * self._seconds <= within_s * self._images

    def expect_s(self, *, ahead: int, own: int, concurrent_runs: int) -> float:
        """How long until a call of `own` images is answered: it stays in one run, and `concurrent_runs` share what is ahead."""
        if not self._images:
            return 0.0
        image_s = self._seconds / self._images
        return self._seconds / self._batches + image_s * (ahead / concurrent_runs + own)
