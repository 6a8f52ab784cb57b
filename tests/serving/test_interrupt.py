"""Ctrl-C, as a terminal sends it: to every process of the foreground group, once or twice."""

import os
import pty
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.programs import ROOT
from tests.serving.conftest import Publisher

SILENCE_S = 45.0
"""A program that prints nothing for so long, and does not end, hangs."""

LINGER_S = "60"
"""Longer than that."""


@dataclass
class Terminal:
    """A program in a terminal of its own, what it printed, and the keyboard."""

    pid: int
    keyboard: int
    output: str = ""
    exit_code: int | None = None

    def read_until(self, text: str) -> None:
        """Read what is printed until it contains a text."""
        while text not in self.output:
            assert self._read(), f"ended without {text!r}: {self.output}"

    def press_ctrl_c(self) -> None:
        """Interrupt the foreground process group."""
        os.write(self.keyboard, b"\x03")

    def read_to_end(self) -> int:
        """Read until the program has ended, and return its exit code: minus the signal that ended it."""
        while self._read():
            pass
        self.exit_code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.exit_code

    def _read(self) -> bool:
        ready, _, _ = select.select([self.keyboard], [], [], SILENCE_S)
        assert ready, f"nothing more within {SILENCE_S:g} s: {self.output}"
        try:
            content = os.read(self.keyboard, 65536)
        except OSError:  # EIO: nobody has the terminal open any more
            return False
        self.output += content.decode(errors="replace")
        return bool(content)


@contextmanager
def terminal(*arguments: str, **environment: str) -> Iterator[Terminal]:
    """`python -m ARGUMENTS` in a terminal; killed at the end if it still runs."""
    pid, keyboard = pty.fork()
    if not pid:
        os.chdir(ROOT)
        os.execve(sys.executable, [sys.executable, "-m", *arguments], os.environ | environment)  # noqa: S606 - no shell
    running = Terminal(pid, keyboard)
    try:
        yield running
    finally:
        if running.exit_code is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(keyboard)


PROGRAMS: Mapping[str, tuple[str, Sequence[str]]] = {
    "a server": ("listening on", ("serving", "serve", "--provider", "cpu", "--repository", "{}")),
    "two workers": ("listening on", ("serving", "serve", "--provider", "cpu", "--workers", "2", "--repository", "{}")),
    "a server in Envoy": ("listening on", ("serving", "serve", "--transport", "envoy", "--repository", "{}")),
    "the door": ("listening on", ("serving.door", "--replicas", "127.0.0.1:9")),
    "make page": ("draw on", ("scripts.page", "--no-browser", "--repository", "{}")),
}
"""What each prints when it is ready, and its arguments; {} is the repository."""


@contextmanager
def started(name: str, publisher: Publisher, **environment: str) -> Iterator[Terminal]:
    """One of the programs, with version 1 to serve."""
    publisher.publish(1)
    arguments = [argument.format(publisher.root) for argument in PROGRAMS[name][1]]
    with terminal(*arguments, "--port", "0", **environment) as running:
        yield running


def assert_is_quiet(running: Terminal) -> None:
    """No word of a failure."""
    assert "CRITICAL" not in running.output, running.output
    assert "Traceback" not in running.output, running.output


@pytest.mark.parametrize("name", PROGRAMS)
def test_ctrl_c_ends_quietly(name: str, publisher: Publisher) -> None:
    """The exit code is 0, once every call is answered."""
    with started(name, publisher) as running:
        running.read_until(PROGRAMS[name][0])
        running.press_ctrl_c()
        assert running.read_to_end() == 0, running.output
    assert_is_quiet(running)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_second_ctrl_c_does_not_wait_for_the_drain(name: str, publisher: Publisher) -> None:
    """Everything ends at once: a server by that signal, the page as after the first."""
    lingering = {"SERVING_DRAIN_LINGER_S": LINGER_S, "DOOR_DRAIN_LINGER_S": LINGER_S}
    with started(name, publisher, **lingering) as running:
        running.read_until(PROGRAMS[name][0])
        running.press_ctrl_c()
        if name == "make page":  # whose server says nothing
            time.sleep(1)
        else:
            running.read_until("draining")
        running.press_ctrl_c()
        assert running.read_to_end() == (0 if name == "make page" else -signal.SIGINT)
    assert_is_quiet(running)


@pytest.mark.parametrize("name", PROGRAMS)
def test_ctrl_c_while_a_program_imports_its_modules_ends_it_quietly(name: str, publisher: Publisher) -> None:
    """Python would show a traceback."""
    with started(name, publisher, PYTHONPROFILEIMPORTTIME="1") as running:
        running.read_until(" subprocess\r\n")
        running.press_ctrl_c()
        assert running.read_to_end() in (0, -signal.SIGINT)
    assert_is_quiet(running)
