"""How long a run of the model takes, measured when a version is loaded and learnt from every batch since."""

from collections.abc import Mapping

KEEP = 0.9  # of what was known, per batch: about the last ten count


class Pace:
    """Decayed means, one for each power of two of images: small batches pay more for an image than large ones."""

    def __init__(self) -> None:
        self._image_s: dict[int, float] = {}
        self._batch_s = 0.0

    def start(self, run_s: Mapping[int, float]) -> None:
        """Forget what was learnt: a new version takes `run_s[images]` seconds for a run of so many images."""
        self._image_s = {images.bit_length(): seconds / images for images, seconds in run_s.items()}
        self._batch_s = 0.0

    def observe(self, image_count: int, duration_s: float) -> None:
        """Learn from a batch that took `duration_s`."""
        size, image_s = image_count.bit_length(), duration_s / image_count
        self._image_s[size] = KEEP * self._image_s.get(size, image_s) + (1 - KEEP) * image_s
        self._batch_s = KEEP * self._batch_s + (1 - KEEP) * duration_s

    def run_s(self, image_count: int) -> float:
        """How long a run of so many images takes; 0 while nothing is known."""
        size = image_count.bit_length()
        if size in self._image_s:
            return image_count * self._image_s[size]
        if not self._image_s:
            return 0.0
        nearest = min(self._image_s, key=lambda known: (abs(known - size), known))
        return image_count * self._image_s[nearest]

    def is_quick(self, image_count: int, within_s: float) -> bool:
        """Whether a run of so many images is known to take no longer than that."""
        return bool(self._image_s) and self.run_s(image_count) <= within_s

    def answer_s(self, *, ahead: int, own: int, concurrent_runs: int) -> float:
        """How long until a call of `own` images is answered that has `ahead` images before it, running or waiting.

        The runs share what is ahead; the call itself stays in one run, which it may share with a batch as usual.
        """
        return (self.run_s(ahead) if ahead else 0.0) / concurrent_runs + self.run_s(own) + self._batch_s
