"""How long a run of the model takes, measured when a version is loaded and learnt from every batch since."""

from collections.abc import Mapping

KEEP = 0.9  # of what was known, per batch: about the last ten count

QUICK_S = 0.0005
"""A run that takes no longer is quick: a thread and back would cost as much."""


class Pace:
    """Seconds an image for each power of two of images: small batches pay more for an image than large ones."""

    def __init__(self) -> None:
        self.quick_images = 0
        """Runs of so many images or fewer are known to be quick, by the model's own time when it was loaded.

        Not by what runs take lately: on a busy machine a run in a thread waits for others, looks slow for that, and
        would be sent to a thread for ever.
        """
        self._lately: dict[int, float] = {}
        self._batch_s = 0.0

    def start(self, run_s: Mapping[int, float]) -> None:
        """Forget what was learnt: a new version takes `run_s[images]` seconds for a run of so many images."""
        self.quick_images = max((images for images, seconds in run_s.items() if seconds <= QUICK_S), default=0)
        self._lately = {images.bit_length(): seconds / images for images, seconds in run_s.items()}
        self._batch_s = 0.0

    def observe(self, image_count: int, duration_s: float) -> None:
        """Learn from a batch that took `duration_s`, whatever it had to wait for in that time."""
        size, image_s = image_count.bit_length(), duration_s / image_count
        self._lately[size] = KEEP * self._lately.get(size, image_s) + (1 - KEEP) * image_s
        self._batch_s = KEEP * self._batch_s + (1 - KEEP) * duration_s

    def run_s(self, image_count: int) -> float:
        """How long a run of so many images takes lately; 0 while nothing is known."""
        if not self._lately or not image_count:
            return 0.0
        size = image_count.bit_length()
        nearest = size if size in self._lately else min(self._lately, key=lambda known: (abs(known - size), known))
        return image_count * self._lately[nearest]

    def answer_s(self, *, ahead: int, own: int, concurrent_runs: int) -> float:
        """How long until a call of `own` images is answered that has `ahead` images before it, running or waiting.

        The runs share what is ahead; the call itself stays in one run, which it may share with a batch as usual.
        """
        return self.run_s(ahead) / concurrent_runs + self.run_s(own) + self._batch_s
