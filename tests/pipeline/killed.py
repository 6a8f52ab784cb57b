"""Runs a function in a fork that is killed before a certain line that touches the disk."""

import os
import re
import signal
import sys
from collections.abc import Callable, Collection
from linecache import getline
from types import FrameType

TOUCHES_THE_DISK = re.compile(
    r"rename|replace|mkdir|make_directory|fsync|sync_directory|write|open\(|truncate|link|rmtree|rmdir|chmod"
)
"""Between two such lines a kill leaves the same files."""


def run_until_killed(function: Callable[[], object], line_count: int, watched: Collection[str]) -> bool:
    """Run `function` until it is at the line `line_count` of those within the files `watched` that touch the disk.

    Says whether it was killed there.
    """
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
        if event == "line" and TOUCHES_THE_DISK.search(getline(frame.f_code.co_filename, frame.f_lineno)):
            lines_left -= 1
            if lines_left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)  # type: ignore[arg-type]
