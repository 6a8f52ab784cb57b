"""Doors as real programs."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.programs import ROOT, ServerProcess, listening

QUICK = ("--drain-linger-s", "0.2", "--check-interval-s", "0.2", "--ejection-s", "0.5")


@contextmanager
def door_process(replicas: Sequence[str], log: Path, *arguments: str, **environment: str) -> Iterator[ServerProcess]:
    """`python -m serving.door` on a free port; killed at the end if the test has not stopped it."""
    command = [sys.executable, "-m", "serving.door", "--json", "--port", "0", "--replicas", ",".join(replicas)]
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [*command, *QUICK, *arguments],
            cwd=ROOT,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        try:
            told = listening(process, log)
            yield ServerProcess(process, told["address"], told["metrics_port"], log)
        finally:
            process.send_signal(signal.SIGKILL)
