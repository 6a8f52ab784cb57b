"""A real HTTP server of the embedded files on 127.0.0.1, whose first answers can be faulty."""

import gzip
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from pipeline.fetch import EMBEDDED

Answer = Callable[["Handler", bytes], None]


class Mirror(ThreadingHTTPServer):
    """Serves the embedded files; `faults` are the first answers, in order."""

    daemon_threads = True

    def __init__(self, faults: Iterable[str]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults = iter(faults)
        self.requested: list[str] = []
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        """The address to give as a mirror."""
        return f"http://127.0.0.1:{self.server_port}/mnist/"


class Handler(BaseHTTPRequestHandler):
    """Answers one request, rightly or as the next fault says."""

    server: Mirror

    def do_GET(self) -> None:
        """Answer a download."""
        name = Path(self.path).name
        self.server.requested.append(name)
        answer = ANSWERS[next(self.server.faults, "whole")]
        try:
            answer(self, (EMBEDDED / name).read_bytes())
        except ConnectionError:  # the client has given up, as it should
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Keep quiet."""

    def start(self, length: int) -> None:
        """Send the headers of a good answer."""
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()


def _whole(handler: Handler, content: bytes) -> None:
    handler.start(len(content))
    handler.wfile.write(content)


def _busy(handler: Handler, _content: bytes) -> None:
    handler.send_error(503)


def _cut(handler: Handler, content: bytes) -> None:
    handler.start(len(content))
    handler.wfile.write(content[: len(content) // 2])


def _short(handler: Handler, content: bytes) -> None:
    _whole(handler, content[: len(content) // 2])


def _corrupt(handler: Handler, content: bytes) -> None:
    middle = len(content) // 2
    _whole(handler, content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])


def _another(handler: Handler, _content: bytes) -> None:
    _whole(handler, (EMBEDDED / "t10k-labels-idx1-ubyte.gz").read_bytes())


def _silent(handler: Handler, _content: bytes) -> None:
    handler.server.closing.wait()


def _drip(handler: Handler, content: bytes) -> None:
    handler.start(len(content))
    for byte in content:
        handler.wfile.write(bytes([byte]))
        if handler.server.closing.wait(0.02):
            return


def _drip_header(handler: Handler, _content: bytes) -> None:
    handler.send_response(200)
    handler.flush_headers()
    while not handler.server.closing.wait(0.02):
        handler.wfile.write(b"x")


def _bomb(handler: Handler, _content: bytes) -> None:
    header = (0x803).to_bytes(4) + b"".join(size.to_bytes(4) for size in (2**20, 28, 28))
    _whole(handler, gzip.compress(header + bytes(2**20)))


def _overflow(handler: Handler, content: bytes) -> None:
    _whole(handler, content + gzip.compress(bytes(2**20)))  # members of a gzip file follow one another


def _endless(handler: Handler, _content: bytes) -> None:
    handler.start(2**40)
    while not handler.server.closing.is_set():
        handler.wfile.write(bytes(2**20))


ANSWERS: Mapping[str, Answer] = {
    "whole": _whole,
    "busy": _busy,
    "cut": _cut,
    "short": _short,
    "corrupt": _corrupt,
    "another file": _another,
    "silent": _silent,
    "drip": _drip,
    "drip header": _drip_header,
    "bomb": _bomb,
    "overflow": _overflow,
    "endless": _endless,
}


@contextmanager
def run_mirror(faults: Iterable[str] = ()) -> Iterator[Mirror]:
    """Run a mirror while the block lasts."""
    with Mirror(faults) as mirror:
        thread = threading.Thread(target=mirror.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield mirror
        finally:
            mirror.closing.set()
            mirror.shutdown()
            thread.join()
