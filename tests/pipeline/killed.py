"""Runs a function in a fork that is killed before a certain line of it."""

import os
import signal
import sys
from collections.abc import Callable, Collection
from types import FrameType


def run_until_killed(function: Callable[[], object], line_count: int, watched: Collection[str]) -> bool:
    """Run `function` until it is at its line `line_count` within the files `watched`; say whether it was killed."""
    child = os.fork()
    if child == 0:
        _kill_before(line_count, watched)
        function()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def _kill_before(line_count: int, watched: Collection[str]) -> None:
    lines_left = line_count

    def trace(frame: FrameType, event: str, _argument: object) -> object:
        nonlocal lines_left
        if frame.f_code.co_filename not in watched:
            return None
        if event == "line":
            lines_left -= 1
            if lines_left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)  # type: ignore[arg-type]
