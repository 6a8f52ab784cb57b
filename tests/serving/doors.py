"""Doors as real programs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.programs import ServerProcess, listening_process

QUICK = ("--drain-linger-s", "0.2", "--check-interval-s", "0.2", "--ejection-s", "0.5")


@contextmanager
def door_process(replicas: Sequence[str], log: Path, *arguments: str, **environment: str) -> Iterator[ServerProcess]:
    """A door on a free port, which looks at its replicas often; killed at the end if the test has not stopped it."""
    command = ["serving.door", "--json", "--port", "0", "--replicas", ",".join(replicas), *QUICK, *arguments]
    with listening_process(command, log, environment) as process:
        yield process
