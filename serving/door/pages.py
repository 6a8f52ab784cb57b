"""Files for a browser as answers of Envoy's own: the page is there although no replica is."""

import base64
from collections.abc import Iterable, Mapping

from serving.envoy.parts import Config
from serving.files import File


def pages(files: Mapping[str, File]) -> Iterable[Config]:
    """The routes of the files; who has one already is told so by 304."""
    for path, file in files.items():
        known = [{"name": "if-none-match", "string_match": {"exact": file.etag}}]
        yield {
            "match": {"path": path, "headers": known},
            "direct_response": {"status": 304},
            "response_headers_to_add": _headers({"etag": file.etag}),
            "response_headers_to_remove": ["location"],  # Envoy would lead everybody who gets a 3xx somewhere
        }
        yield {
            "match": {"path": path},
            "direct_response": {
                "status": 200,
                "body": {"inline_bytes": base64.b64encode(file.content).decode()},
            },
            "response_headers_to_add": _headers(file.headers),
        }


def _headers(headers: Mapping[str, str]) -> list[Config]:
    """Headers in place of those that Envoy would send."""
    return [
        {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        for name, value in headers.items()
    ]
