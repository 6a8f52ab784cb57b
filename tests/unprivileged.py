"""Rights that end where others' begin: root reads everything."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

NOBODY = 65534
time.strptime("0", "%S")  # imports what protobuf needs for times: Python itself may lie where only root may read


@contextmanager
def unprivileged_folder() -> Iterator[Path]:
    """An empty folder that is ours while the block runs without root's rights."""
    with TemporaryDirectory() as name:
        is_root = os.geteuid() == 0
        if is_root:
            os.chown(name, NOBODY, -1)
            os.seteuid(NOBODY)
        try:
            yield Path(name)
        finally:
            if is_root:
                os.seteuid(0)
