"""The console command `digits`: the same as `python -m pipeline`."""

import runpy


def main() -> None:
    """Run the package as `python -m` does: one way to start, and to be interrupted while it imports."""
    runpy.run_module("pipeline", run_name="__main__")
