"""`python -m serving` without the `serving-timing` trailer, which the product always sends: for `bench_trailer` alone.

python -m tests.benchmarks.without_trailer serve ...
"""

import sys

from serving import digits
from serving.__main__ import main
from serving.batching.queue import Timing
from serving.call import Call


def add_nothing(call: Call, timing: Timing) -> None:
    """In place of the trailer: neither worked out nor sent."""


if __name__ == "__main__":
    digits._add_timing = add_nothing
    sys.exit(main())
