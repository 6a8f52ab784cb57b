"""What is answered to who speaks HTTP and no gRPC."""

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from serving.files import File


class Page(NamedTuple):
    """One answer."""

    status: int
    headers: Mapping[str, str]
    content: bytes


Show = Callable[[Mapping[bytes, bytes]], Page]
"""Answers GET, given the headers of the request."""


def as_json(status: int, content: Mapping[str, Any]) -> Page:
    """An answer in JSON."""
    return Page(status, {"content-type": "application/json"}, json.dumps(content).encode())


def show(file: File) -> Show:
    """Answers with a file, or with 304 who has it already."""
    page = Page(200, file.headers, file.content)
    known = Page(304, {"etag": file.etag}, b"")
    etag = file.etag.encode()
    return lambda headers: known if headers.get(b"if-none-match") == etag else page
