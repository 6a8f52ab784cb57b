"""A run in a process of its own: real processes, real signals."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.scheduling.child import Ending, SystemClock, run_child
from tests.programs import ROOT

GRANDCHILD = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
{then}
"""


def run_code(code: str, *arguments: str | Path, limit_s: float = 30) -> Ending:
    """Run Python code as a child."""
    with SystemClock() as clock:
        return run_child([sys.executable, "-c", code, *map(str, arguments)], os.environ, limit_s, clock)


def is_gone(pid: int) -> bool:
    """Whether a process has ended: it is no more, or nobody has asked for its exit code yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def soon(condition: Callable[[], bool]) -> bool:
    """Whether something becomes true within a minute."""
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up and not condition():
        time.sleep(0.02)
    return condition()


def test_an_exit_code_is_reported_at_once() -> None:
    """The end of the child ends the wait."""
    ending = run_code("raise SystemExit(3)")
    assert (ending.exit_code, ending.is_stopped, ending.is_over_limit) == (3, False, False)
    assert ending.duration_s < 50


def test_a_death_is_reported_with_its_signal() -> None:
    """As the out-of-memory killer would do it."""
    assert run_code("import os; os.kill(os.getpid(), 9)").exit_code == -signal.SIGKILL


def test_what_a_run_started_does_not_outlive_it(tmp_path: Path) -> None:
    """Not even when the run is killed."""
    run_code(GRANDCHILD.format(then="import os; os.kill(os.getpid(), 9)"), tmp_path / "pid")
    assert soon(lambda: is_gone(int((tmp_path / "pid").read_text())))


def test_a_run_that_hangs_is_ended_at_its_limit(tmp_path: Path) -> None:
    """With all that it started."""
    ending = run_code(GRANDCHILD.format(then="time.sleep(60)"), tmp_path / "pid", limit_s=1.5)
    assert ending.is_over_limit
    assert 1.5 <= ending.duration_s < 50
    assert soon(lambda: is_gone(int((tmp_path / "pid").read_text())))


def test_sigterm_ends_the_child_and_then_the_wait(tmp_path: Path) -> None:
    """A process that waits for its child; its exit code says that it was told to stop."""
    waits = (
        "import os, sys; from pipeline.scheduling.child import SystemClock, run_child\n"
        "with SystemClock() as clock:\n"
        "    ending = run_child([sys.executable, '-c', sys.argv[1], sys.argv[2]], os.environ, 60, clock)\n"
        "sys.exit(42 if ending.is_stopped and ending.exit_code == -15 else 1)\n"
    )
    code = GRANDCHILD.format(then="time.sleep(60)")
    parent = subprocess.Popen([sys.executable, "-c", waits, code, str(tmp_path / "pid")], cwd=ROOT)
    try:
        assert soon(lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text()))
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(60) == 42
    finally:
        parent.kill()
    assert soon(lambda: is_gone(int((tmp_path / "pid").read_text())))
