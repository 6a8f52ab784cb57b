"""How a worker is started: as a Python of its own, or inside an Envoy."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Launch:
    """A program, ready to be started."""

    command: Sequence[str]
    environment: Mapping[str, str]


@contextmanager
def launch_python(link: int) -> Iterator[Launch]:
    """A Python that finds the supervisor at the descriptor `link`."""
    yield Launch([sys.executable, "-m", "serving.workers.worker", str(link)], dict(os.environ))
