"""Files and directories that are on the disk before the next step begins, and readable whatever the umask."""

import os
from pathlib import Path


def make_directory(directory: Path) -> None:
    """Create a directory and its parents, readable by everybody whatever the umask; what exists is not changed."""
    if not directory.is_dir():
        make_directory(directory.parent)
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)


def make_directory_durably(directory: Path) -> None:
    """The same, and wait until their names are on the disk."""
    missing = [path for path in (directory, *directory.parents) if not path.is_dir()]
    make_directory(directory)
    for path in missing:
        sync_directory(path.parent)


def write_durably(path: Path, content: bytes, mode: int = 0o444) -> None:
    """Write a new file that everybody may read, by default read-only, and wait until it is on the disk."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())


def sync_directory(directory: Path) -> None:
    """Wait until the names in a directory are on the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
