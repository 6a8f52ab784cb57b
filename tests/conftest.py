"""What all tests share."""

import os

# Before torch is imported, here and in every program that a test starts: two processes with two threads each, on two
# cores, spin and wait for minutes (docs/adr/0004).
os.environ.setdefault("OMP_NUM_THREADS", "1")
