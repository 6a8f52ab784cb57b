"""The console command `digits-serve`: the same as `python -m serving`."""

import runpy


def main() -> None:
    """Run the package as `python -m` does: one way to start, and to be interrupted while it imports."""
    runpy.run_module("serving", run_name="__main__")
