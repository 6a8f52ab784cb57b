"""A real Prefect server and worker, as docs/scheduling.md starts them, each with what it started gone at the end."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tests.programs import ROOT

START_S = 120.0
PREFECT = Path(sys.executable).with_name("prefect")

T = TypeVar("T")


@dataclass(frozen=True)
class PrefectServer:
    """`prefect server start` with a database of its own; `environment` leads every program to it."""

    url: str
    environment: Mapping[str, str]
    log: Path

    def prefect(self, *arguments: str) -> str:
        """Run a command of Prefect and return what it printed."""
        command = [str(PREFECT), "--no-prompt", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=START_S)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@contextlib.contextmanager
def prefect_server(folder: Path) -> Iterator[PrefectServer]:
    """A server on a free port that keeps everything below `folder`."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}/api"
    environment = os.environ | {
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_API_URL": url,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
        "OMP_NUM_THREADS": "1",
    }
    server = PrefectServer(url, environment, folder / "server.log")
    with group([str(PREFECT), "server", "start", "--port", str(port)], environment, server.log):
        wait_for(lambda: _is_ready(url), START_S)
        yield server


@contextlib.contextmanager
def group(command: list[str], environment: Mapping[str, str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A program that leads a process group, killed with all of its group at the end."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
    finally:
        kill_group(process)


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and its group at once, as a power cut would."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def wait_for(condition: Callable[[], T | None], timeout_s: float) -> T:
    """What `condition` gives as soon as it gives something true; AssertionError after `timeout_s`."""
    give_up = time.monotonic() + timeout_s
    while time.monotonic() < give_up:
        if result := condition():
            return result
        time.sleep(0.2)
    raise AssertionError(f"not so within {timeout_s:g} s: {condition}")


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:  # noqa: S310 - our own server
            return bool(answer.status == 200)
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
