"""What a container may use."""

import os
from pathlib import Path

import pytest

from serving.machine import usable_cores, usable_memory_bytes

ALL_CORES = len(os.sched_getaffinity(0))
ALL_BYTES = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@pytest.mark.parametrize(
    ("limit", "cores"),
    [("max 100000", ALL_CORES), ("50000 100000", 0.5), ("99900000 100000", ALL_CORES), ("garbage", ALL_CORES)],
)
def test_a_containers_cores_count(tmp_path: Path, limit: str, cores: float) -> None:
    """Half a core is not two, whatever the machine has."""
    (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert usable_cores(tmp_path / "cpu.max") == cores


@pytest.mark.parametrize(
    ("limit", "memory_bytes"),
    [("max", ALL_BYTES), ("536870912", 2**29), (str(2**60), ALL_BYTES), ("garbage", ALL_BYTES)],
)
def test_a_containers_memory_counts(tmp_path: Path, limit: str, memory_bytes: int) -> None:
    """Half a gigabyte is no more, whatever the machine has."""
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    assert usable_memory_bytes(tmp_path / "memory.max") == memory_bytes


def test_without_a_container_all_of_it_counts(tmp_path: Path) -> None:
    """Its files are not there."""
    assert usable_cores(tmp_path / "none") == ALL_CORES
    assert usable_memory_bytes(tmp_path / "none") == ALL_BYTES
