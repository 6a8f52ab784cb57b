"""How the log is written, to stderr: text for a person, or JSON, one object a line, for what collects logs.

Never a request's content: not ours, and not that of the libraries either, whose loggers all end here.
"""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal

Format = Literal["text", "json"]

TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"

IDS = ("request_id", "trace_id")
"""What a record may name its call by: `extra={"request_id": ...}`."""


def set_up(level: str, log_format: Format) -> None:
    """Send every record of at least `level`, and Python's warnings, to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else logging.Formatter(TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    logging.getLogger("PIL").setLevel(logging.INFO)  # at debug it quotes the files that it decodes


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON, ASCII only: time, level, logger, message, and ids and exception where there are."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; what breaks lines in a message is escaped."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name in IDS if (value := getattr(record, name, ""))}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
