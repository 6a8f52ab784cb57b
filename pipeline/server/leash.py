"""Runs a command that ends when its parent does: `python -m pipeline.server.leash PARENT COMMAND ...`.

Whatever ends the pipeline, SIGKILL too, the kernel then ends the command. Only on Linux; elsewhere the command runs as
it is. (subprocess's preexec_fn could do the same, but not beside threads, and gRPC has some.)
"""

import ctypes
import os
import signal
import sys
from typing import NoReturn

PR_SET_PDEATHSIG = 1  # linux/prctl.h; it outlives exec


def main(parent: int, command: list[str]) -> NoReturn:
    """Become the command; `parent` is the process id of the process that is to hold the leash."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit(f"process {parent} has ended already")
    os.execvp(command[0], command)  # noqa: S606 - no shell is what is wanted


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
