"""Ctrl-C, which nobody may swallow: Python drops an exception in a finaliser, and some libraries drop it elsewhere."""

import signal

EXIT_CODE = 128 + signal.SIGINT
"""As shells report a program that ended by Ctrl-C."""

_received = False


def handle(_number: int, _frame: object) -> None:
    """Raise KeyboardInterrupt, and remember it."""
    global _received  # noqa: PLW0603 - a signal is the process's
    _received = True
    raise KeyboardInterrupt


def check() -> None:
    """Raise KeyboardInterrupt if one was swallowed: before what cannot be undone."""
    if _received:
        raise KeyboardInterrupt
