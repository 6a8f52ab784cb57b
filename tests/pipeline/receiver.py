"""A webhook of the tests: a real HTTP server that keeps what it was told."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class Receiver:
    """What came, and how many of the first requests are to be answered with 503."""

    def __init__(self, failures: int = 0) -> None:
        self.notices: list[dict[str, Any]] = []
        self.request_count = 0
        self.failures = failures
        self.url = ""


@contextmanager
def receiving(failures: int = 0) -> Iterator[Receiver]:
    """A receiver on a free port."""
    receiver = Receiver(failures)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            receiver.request_count += 1
            is_down = receiver.request_count <= receiver.failures
            if not is_down:
                receiver.notices.append(body)
            self.send_response(503 if is_down else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep the output of the tests clean."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_port}/hooks/secret"
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()
