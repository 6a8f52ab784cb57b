"""How the pipeline's log is written: a record is one line, whatever its message quotes."""

import logging
from types import TracebackType
from typing import TypeAlias

from pipeline.printable import printable

ExceptionInfo: TypeAlias = "tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]"


class LineFormatter(logging.Formatter):
    """Escapes control characters; the lines of a traceback are indented, so that none of them looks like a record."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line without the exception."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: ExceptionInfo) -> str:  # noqa: N802
        """The traceback."""
        return "\n".join(f"  {printable(line)}" for line in super().formatException(ei).split("\n"))


def set_up() -> None:
    """Write warnings where no other log is set up; Prefect and `schedule` set up theirs."""
    if logging.lastResort:
        logging.lastResort.setFormatter(LineFormatter())
