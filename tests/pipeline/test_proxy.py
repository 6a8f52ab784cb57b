"""A proxy of the environment is not asked for this machine: Prefect's temporary server listens here."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.programs import ROOT


class Answer(BaseHTTPRequestHandler):
    """Answers everything with 200."""

    def do_GET(self) -> None:
        """Nothing but the status."""
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    """A server on this machine."""
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("variable", ["no_proxy", "NO_PROXY"])
@pytest.mark.parametrize("others", ["", "example.com", "*"])
@pytest.mark.parametrize("library", ["httpx", "urllib.request"])
def test_this_machine_is_called_directly(server: HTTPServer, library: str, others: str, variable: str) -> None:
    """By what Prefect's client is made of, and by the standard library; hosts that are named already stay named."""
    ask = {"httpx": "httpx.get(url).status_code", "urllib.request": "urllib.request.urlopen(url).status"}[library]
    url = f"http://127.0.0.1:{server.server_port}/"
    told = "os.environ.get('no_proxy') or os.environ['NO_PROXY']"
    code = f"import os, pipeline, {library}; url = {url!r}; print({ask}, {told})"
    dead = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"), "http://127.0.0.1:9")
    environment = {"PATH": "/usr/bin", variable: others, **dead}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.startswith(f"200 {others}"), done.stderr
