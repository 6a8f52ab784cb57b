"""The end of a process whose threads may hang: on a disk, or in a model's run."""

import os
import sys
import threading
from typing import NoReturn

from serving.versions.limited import THREAD_NAME

EXIT_S = 2.0
"""How long Python may wait for other threads; a library's own, such as grpcio's, send their last bytes meanwhile."""


def exit_now(code: int) -> NoReturn:
    """End the process as usual, but wait for no thread that hangs."""
    sys.stdout.flush()
    sys.stderr.flush()
    if any(thread.name == THREAD_NAME for thread in threading.enumerate()):
        os._exit(code)
    watchdog = threading.Timer(EXIT_S, os._exit, (code,))
    watchdog.daemon = True
    watchdog.start()
    sys.exit(code)
