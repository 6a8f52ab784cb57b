"""Callers that go on until they are told to stop, and tell how each call ended."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from serving.client import DigitClient
from serving.errors import ServingError
from serving.pixels import Images
from tests.compose.stack import DOOR

CALLERS, IMAGES_A_CALL = 8, 8


@dataclass
class Outcomes:
    """How the calls ended, and which versions answered."""

    answered: int = 0
    versions: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


@contextmanager
def load(images: Images, pause_s: float = 0) -> Iterator[Outcomes]:
    """Callers for as long as the context lasts, each with a pause between its calls."""
    outcomes, stop, lock = Outcomes(), threading.Event(), threading.Lock()

    def call_on(first: int) -> None:
        with DigitClient(DOOR) as client:
            while not stop.is_set():
                some = slice(first, first + IMAGES_A_CALL)
                try:
                    answer = client.classify(images[some])
                except ServingError as error:
                    with lock:
                        outcomes.failures.append(f"{type(error).__name__}: {error}")
                    stop.wait(0.05)
                    continue
                with lock:
                    outcomes.answered += 1
                    outcomes.versions[answer.model_version] += 1
                stop.wait(pause_s)

    threads = [threading.Thread(target=call_on, args=(IMAGES_A_CALL * number,)) for number in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        yield outcomes
    finally:
        stop.set()
        for thread in threads:
            thread.join()
