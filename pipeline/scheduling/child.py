"""A run in a process of its own: whatever it does to itself, the schedule goes on.

The process leads a group, so that nothing it started outlives it.
"""

import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from pipeline.scheduling.schedule import LOOK_S, Clock

GRACE_S = 10.0  # between SIGTERM and SIGKILL

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

logger = logging.getLogger(__name__)


class SystemClock:
    """The machine's clock; a wait ends at SIGTERM and SIGINT, for good, and early when a child ends."""

    def __init__(self) -> None:
        self._is_stopping = False
        self._arrived, self._signals = socket.socketpair()

    def __enter__(self) -> Self:
        self._arrived.setblocking(False)
        self._signals.setblocking(False)
        self._fd_before = signal.set_wakeup_fd(self._signals.fileno())
        # A handler that does nothing: the signal's number comes through the socket, to whoever waits there.
        caught = (*STOP_SIGNALS, signal.SIGCHLD)
        self._handlers_before = {number: signal.signal(number, lambda *_: None) for number in caught}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._fd_before)
        self._arrived.close()
        self._signals.close()

    def now(self) -> datetime:
        """The time, UTC."""
        return datetime.now(UTC)

    def wait(self, timeout_s: float) -> bool:
        """Wait until a signal came, `timeout_s` at most; True where one of them was to stop."""
        if not self._is_stopping:
            select.select([self._arrived], [], [], timeout_s)
            with contextlib.suppress(BlockingIOError):
                self._is_stopping = any(number in STOP_SIGNALS for number in self._arrived.recv(4096))
        return self._is_stopping


@dataclass(frozen=True)
class Ending:
    """How a child ended."""

    pid: int
    exit_code: int
    """As its parent sees it: minus the signal's number where a signal ended it."""
    duration_s: float
    is_stopped: bool = False
    """Whether it was ended because the schedule ends."""
    is_over_limit: bool = False
    """Whether it was ended because it took too long."""


def run_child(command: Sequence[str], environment: Mapping[str, str], limit_s: float, clock: Clock) -> Ending:
    """Run a command to its end, to `limit_s`, or until the clock says that it is time to stop."""
    began = time.monotonic()
    with _group(command, environment) as child:
        is_stopped = is_over_limit = False
        while not (_has_ended(child) or is_stopped or is_over_limit):
            is_stopped = clock.wait(min(LOOK_S, max(0.0, began + limit_s - time.monotonic())))
            is_over_limit = time.monotonic() - began >= limit_s
        if not _has_ended(child):
            _end(child)
    return Ending(child.pid, child.returncode, time.monotonic() - began, is_stopped, is_over_limit)


@contextlib.contextmanager
def _group(command: Sequence[str], environment: Mapping[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A child that leads a group; all of the group is killed at the end, and the child reaped."""
    child = subprocess.Popen(command, env=environment, start_new_session=True)  # noqa: S603 - our own command
    try:
        yield child
    finally:
        # The child is not reaped yet, so the group's number cannot belong to anybody else.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _has_ended(child: "subprocess.Popen[bytes]") -> bool:
    """Whether the child has ended; it stays a zombie until its group is gone."""
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _end(child: "subprocess.Popen[bytes]") -> None:
    """Ask the group to end, and wait for the child for a while."""
    logger.info("ending process group %d", child.pid)
    os.killpg(child.pid, signal.SIGTERM)
    give_up = time.monotonic() + GRACE_S
    while not _has_ended(child) and time.monotonic() < give_up:
        time.sleep(0.05)
