"""Tells a webhook of a run that came to nothing. Nobody who listens is no reason for a run to fail.

The JSON has a "text", which chat programs such as Slack and Mattermost show, and its parts for other programs.
"""

import http.client
import json
import logging
import os
import socket
import time
import urllib.request
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal
from urllib.error import HTTPError
from urllib.parse import urlsplit

from pipeline.server.own_address import is_own

NOTIFY_URL = "PIPELINE_NOTIFY_URL"
SCHEMES = ("http", "https")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Notice:
    """What happened to a run."""

    event: Literal["failed", "refused", "killed"]
    model: str
    reason: str


@dataclass(frozen=True)
class Patience:
    """How long a receiver is waited for."""

    tries: int = 3
    timeout_s: float = 5.0  # without an answer
    pause_s: float = 1.0  # between two tries


PATIENCE = Patience()


def notify(url: str | None, notice: Notice, patience: Patience = PATIENCE) -> bool:
    """Post a notice to `url`, or to that of the environment, PIPELINE_NOTIFY_URL; without either nobody is told.

    False where it did not arrive, with a warning in the log.
    """
    url = url or os.environ.get(NOTIFY_URL)
    if not url:
        return False
    fault: Exception | None = None
    for attempt in range(patience.tries):
        if attempt:
            time.sleep(patience.pause_s)
        try:
            return _post(url, _body(notice), patience.timeout_s)
        except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: what is no URL
            fault = error
            if isinstance(error, HTTPError):
                error.close()
    logger.warning("the webhook at %s was not notified (notify_url): %s", _origin(url), _reason(fault))
    return False


def _origin(url: str) -> str:
    """What may be shown of an address: its path, its query and its user are secrets."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an invalid URL"
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}{port}" if parts.scheme in SCHEMES and host else "an invalid URL"


def _reason(fault: Exception | None) -> str:
    """In words of ours or of the operating system: other texts may repeat the address."""
    if isinstance(fault, HTTPError):
        return f"HTTP status {fault.code}"
    cause = getattr(fault, "reason", fault)
    return getattr(cause, "strerror", None) or type(cause).__name__


def _body(notice: Notice) -> bytes:
    host, now = socket.gethostname(), datetime.now(UTC).isoformat(timespec="seconds")
    text = f"{notice.model}: the run was {notice.event} on {host}: {notice.reason}"
    if notice.event == "failed":
        text = f"{notice.model}: the run failed on {host}: {notice.reason}"
    return json.dumps({"text": text, **asdict(notice), "host": host, "time": now}).encode()


def _post(url: str, body: bytes, timeout_s: float) -> bool:
    if urlsplit(url).scheme not in SCHEMES:
        raise ValueError("notify_url: expected a URL that starts with http:// or https://")
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310 - checked above
    opener = DIRECT if is_own(f"{urlsplit(url).hostname}:0") else OPENER
    with opener.open(request, timeout=timeout_s):
        return True


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive as a GET without its body."""

    def redirect_request(self, *_: object) -> None:
        """Follow nothing: urllib then raises the answer as an error."""


OPENER = urllib.request.build_opener(_NoRedirect)
DIRECT = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))
