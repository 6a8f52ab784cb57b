"""What this process may use of its machine, or of its container (Linux, cgroup v2)."""

import os
from pathlib import Path

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
"""A container's limit, "150000 100000" for one and a half cores, "max ..." for none."""

MEMORY_MAX = Path("/sys/fs/cgroup/memory.max")
"""A container's limit in bytes, "max" for none."""


def usable_cores(cpu_max: Path = CPU_MAX) -> float:
    """The cores that this process may use, by its affinity and by its container's limit."""
    cores = float(len(os.sched_getaffinity(0)))
    try:
        quota, period = cpu_max.read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else min(cores, int(quota) / int(period))


def usable_memory_bytes(memory_max: Path = MEMORY_MAX) -> int:
    """The memory of this machine, or of its container."""
    there_is = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(there_is, int(memory_max.read_text()))
    except (OSError, ValueError):
        return there_is
