"""The end of a process: whatever a thread waits for."""

import subprocess
import sys

import pytest

from tests.programs import ROOT


@pytest.mark.parametrize("name", ["load", "another"])
def test_a_thread_that_hangs_does_not_hold_the_exit(name: str) -> None:
    """Python itself would wait for it; what was printed is not lost."""
    code = f"""import threading, time
from serving.exit import exit_now
threading.Thread(target=time.sleep, args=(3600,), name={name!r}).start()
print("drained")
exit_now(3)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (3, "drained\n")
