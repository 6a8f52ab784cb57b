"""Text from outside, such as a label, as a terminal or a log may show it: in one line, without control characters."""

import argparse
import re
from typing import NoReturn

from rich.markup import escape

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters (C0, DEL, C1), what separates lines or reorders them, and halves of surrogate pairs."""


def printable(text: str) -> str:
    r"""The text with each such character as its escape: `\x1b`, `\n`, `\u202e`."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def for_terminal(text: str) -> str:
    """Text that may quote labels and names, as rich prints it."""
    return escape(printable(text))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def argument_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """A parser whose usage errors, also those of its commands, are printed without control characters."""
    return _Parser(prog=prog, description=description)
