"""`python begin.py PROGRAM ARGUMENT ...` becomes that program, which SIGTERM and SIGINT do not reach.

A service manager sends them to all processes at once. Envoy would end and lose its calls; its supervisor has it drain.
"""

import os
import signal
import sys

if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606 - no shell, on purpose
