"""What all tests share."""

import os

import pytest

# Before torch is imported, here and in every program that a test starts: two processes with two threads each, on two
# cores, spin and wait for minutes (docs/adr/0004).
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let one process have all tests that share what a module makes once, such as a training or a server."""
    known = getattr(item, "_fixtureinfo", None)
    fixtures = [it for definitions in known.name2fixturedefs.values() for it in definitions] if known else []
    if any(it.scope == "module" for it in fixtures) and item.get_closest_marker("xdist_group") is None:
        item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
