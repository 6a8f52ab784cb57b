"""How long runs of a model take, measured when it is loaded and learnt from every batch since."""

from collections.abc import Mapping

KEEP = 0.9  # of what was known, per batch: about the last ten count

SHARED_IMAGES = 32
"""What waits in few images is run together in about so many."""

QUICK_S = 0.0005
"""A run that takes no longer is quick: a thread and back would cost as much."""


class Pace:
    """Of one model: seconds an image for each power of two of images, since small batches pay more than large ones.

    `run_s[images]` says how many seconds a run of so many images took when the model was loaded.
    """

    def __init__(self, run_s: Mapping[int, float] | None = None) -> None:
        run_s = run_s or {}
        self.quick_rows = max((images for images, seconds in run_s.items() if seconds <= QUICK_S), default=0)
        """Runs of so many images or fewer are known to be quick, by the model's own time when it was loaded.

        Not by what runs take lately: on a busy machine a run in a thread waits for others, looks slow for that, and
        would be sent to a thread for ever.
        """
        self._image_s = {images.bit_length(): seconds / images for images, seconds in run_s.items()}
        self._batch_s = 0.0
        self._shared_image_s: float | None = None

    def observe(self, image_count: int, duration_s: float) -> None:
        """Learn from a batch that took `duration_s`, whatever it had to wait for in that time."""
        self._shared_image_s = None
        size, image_s = image_count.bit_length(), duration_s / image_count
        self._image_s[size] = KEEP * self._image_s.get(size, image_s) + (1 - KEEP) * image_s
        self._batch_s = KEEP * self._batch_s + (1 - KEEP) * duration_s

    def run_s(self, image_count: int) -> float:
        """How long a run of so many images takes lately; 0 while nothing is known."""
        if not self._image_s:
            return 0.0
        size = image_count.bit_length()
        nearest = size if size in self._image_s else min(self._image_s, key=lambda known: (abs(known - size), known))
        return image_count * self._image_s[nearest]

    def work_s(self, image_count: int) -> float:
        """What so many images add to the work that waits; few of them share a run with others."""
        if image_count >= SHARED_IMAGES:
            return self.run_s(image_count)
        if self._shared_image_s is None:  # worked out once a batch, not once a call
            self._shared_image_s = self.run_s(SHARED_IMAGES) / SHARED_IMAGES
        return image_count * self._shared_image_s

    def answer_s(self, image_count: int, *, before_s: float) -> float:
        """How long until a call is answered that has `before_s` of work before it.

        It stays in one run, which it may share with a batch as usual.
        """
        return before_s + self.run_s(image_count) + self._batch_s
