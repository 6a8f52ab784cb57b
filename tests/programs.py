"""Starts the product's real programs, as a person would, and never leaves one behind."""

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
START_S = 120.0
STOP_S = 60.0


@dataclass(frozen=True)
class ServerProcess:
    """`python -m serving serve` in a process of its own."""

    process: "subprocess.Popen[str]"
    address: str
    metrics_port: int | None
    log: Path

    def children(self) -> list[int]:
        """The processes that it started and that still live."""
        pid = self.process.pid
        try:
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        except FileNotFoundError:
            return []

    @property
    def answering_pid(self) -> int:
        """The process that answers calls: its own, or that of the Envoy that it minds."""
        return (self.children() or [self.process.pid])[0]

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to the process and to those that it started."""
        for pid in (self.process.pid, *self.children()):
            os.kill(pid, number)

    def terminate(self) -> int:
        """Send SIGTERM, wait for the drain and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)


def run_program(*arguments: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run `python -m ...` from the root of the checkout until it ends."""
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=280,
    )


def resident_bytes(pid: int) -> int:
    """The resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def server_process(
    repository: Path, log: Path, *arguments: str, program: str = "serving", **environment: str
) -> Iterator[ServerProcess]:
    """A server on a free port; killed at the end if the test has not stopped it."""
    command = [program, "serve", "--json", "--port", "0", "--repository", str(repository), *arguments]
    with listening_process(command, log, environment) as process:
        yield process


@contextmanager
def listening_process(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Iterator[ServerProcess]:
    """`python -m COMMAND ...`, which says in JSON where it listens; killed at the end if the test has not ended it."""
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        try:
            told = _listening(process, log)
            yield ServerProcess(process, told["address"], told["metrics_port"], log)
        finally:
            process.kill()


def _listening(process: "subprocess.Popen[str]", log: Path) -> dict[str, Any]:
    """Wait for the one line that says where the server listens."""
    if process.stdout is None:
        raise AssertionError("the server was started without a pipe")
    ready, _, _ = select.select([process.stdout], [], [], START_S)
    line = process.stdout.readline() if ready else ""
    if not line:
        raise AssertionError(f"the server did not start within {START_S:g} s: {log.read_text()}")
    told: dict[str, Any] = json.loads(line)
    return told
