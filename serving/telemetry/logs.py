"""How the log is written, to stderr: text for a person, or JSON, one object a line, for what collects logs.

Never a request's content: not ours, and not that of the libraries either, whose loggers all end here.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, TypeAlias

from serving.printable import printable

Format = Literal["text", "json"]

TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

ExceptionInfo: TypeAlias = "tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]"

IDS = ("request_id", "trace_id")
"""What a record may name its call by: `extra={"request_id": ...}`."""


def set_up(level: str, log_format: Format, worker: int | None = None) -> None:
    """Send every record of at least `level`, to stderr, and Python's warnings; `worker` is one of several processes."""
    handler = logging.StreamHandler(sys.stderr)
    text = TEXT if worker is None else f"%(asctime)s %(levelname)s worker {worker} %(name)s: %(message)s"
    handler.setFormatter(JsonFormatter(worker) if log_format == "json" else TextFormatter(text))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.getLogger("PIL").setLevel(logging.INFO)  # at debug it quotes the files that it decodes


class TextFormatter(logging.Formatter):
    """A record as one line without control characters; a traceback's lines are indented: none looks like a record."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The line without the exception."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: ExceptionInfo) -> str:  # noqa: N802
        """The traceback."""
        return "\n".join(f"  {printable(line)}" for line in super().formatException(ei).split("\n"))


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON, ASCII only: time, level, logger, message, and more where there is more."""

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._worker = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        """One line; what breaks lines in a message is escaped."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            **self._worker,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name in IDS if (value := getattr(record, name, ""))}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
