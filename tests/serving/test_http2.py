"""HTTP/2 itself misused, by frames written byte for byte: the server goes on, and does not grow.

Frames are those of RFC 9113, headers those of RFC 7541, each written literally and without an index.
"""

import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from protos.digits.v1.digits_pb2 import ClassifyRequest
from serving.client import DigitClient
from tests.programs import ServerProcess, resident_bytes, server_process
from tests.serving.conftest import TRANSPORTS, Publisher

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, PADDED = 1, 4, 8
MAY_GROW_BYTES = 30 * 2**20


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def header(name: bytes, value: bytes) -> bytes:
    """One header, literally, never indexed."""
    return b"\x10" + text(name) + text(value)


def text(content: bytes) -> bytes:
    """A string, its length in front in seven bits, or more."""
    if len(content) < 127:
        return bytes((len(content),)) + content
    rest, length = len(content) - 127, b"\x7f"
    while rest >= 128:
        length += bytes((rest & 127 | 128,))
        rest >>= 7
    return length + bytes((rest,)) + content


CALL = b"".join(
    header(name, value)
    for name, value in (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/digits.v1.DigitService/Classify"),
        (b":authority", b"localhost"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    )
)
MESSAGE = ClassifyRequest(image_count=1, pixels=bytes(784)).SerializeToString()
BODY = b"\0" + len(MESSAGE).to_bytes(4, "big") + MESSAGE
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0)


class Caller:
    """A connection over which any bytes go."""

    def __init__(self, address: str) -> None:
        host, port = address.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), 5)
        self._socket.sendall(PREFACE)

    def send(self, content: bytes) -> bool:
        """Send; False when the server has had enough."""
        try:
            self._socket.sendall(content)
        except OSError:
            return False
        return True

    def read(self, silence_s: float = 0.2) -> bytes:
        """What comes until nothing more does for so long, or until the server hangs up."""
        self._socket.settimeout(silence_s)
        content = b""
        with suppress(OSError):
            while chunk := self._socket.recv(2**16):
                content += chunk
        return content

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def oversized_frames(caller: Caller) -> None:
    """A frame longer than the peer takes (16 KiB unless it said otherwise)."""
    caller.send(frame(HEADERS, END_HEADERS, 1, CALL))
    caller.send(frame(DATA, END_STREAM, 1, bytes(2**24 - 1)))


def broken_padding(caller: Caller) -> None:
    """A padding longer than its frame."""
    caller.send(frame(HEADERS, END_HEADERS, 1, CALL))
    caller.send(frame(DATA, END_STREAM | PADDED, 1, b"\xff" + BODY[:10]))


def header_bombs(caller: Caller) -> None:
    """Headers that never end, frame after frame (CVE-2024-27316 and its kind)."""
    caller.send(frame(HEADERS, 0, 1, CALL))
    for number in range(2000):
        if not caller.send(frame(CONTINUATION, 0, 1, header(b"x-%d" % number, b"a" * 1000))):
            return


def rapid_resets(caller: Caller) -> None:
    """Calls that are taken back at once (CVE-2023-44487)."""
    for stream in range(1, 10_000, 2):
        taken_back = frame(RST_STREAM, 0, stream, struct.pack(">I", 8))
        if not caller.send(frame(HEADERS, END_HEADERS, stream, CALL) + frame(DATA, 1, stream, BODY) + taken_back):
            return


def floods(caller: Caller) -> None:
    """Pings and settings, each of which wants an answer that is not read."""
    for _ in range(10_000):
        if not caller.send(frame(PING, 0, 0, bytes(8)) + frame(SETTINGS, 0, 0)):
            return


def nonsense(caller: Caller) -> None:
    """Bytes drawn at random after a good beginning."""
    caller.send(np.random.default_rng(0).bytes(2**16))


def streams_that_run_backwards(caller: Caller) -> None:
    """Numbers that were used, even ones, data for what was never opened."""
    caller.send(frame(HEADERS, END_HEADERS, 5, CALL) + frame(HEADERS, END_HEADERS, 3, CALL))
    caller.send(frame(DATA, END_STREAM, 77, BODY) + frame(HEADERS, END_HEADERS, 2, CALL))
    caller.send(frame(WINDOW_UPDATE, 0, 5, struct.pack(">I", 0)))


def answers_that_nobody_reads(caller: Caller) -> None:
    """Many calls, and a window for answers that is never opened."""
    caller.send(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0)))
    for stream in range(1, 200, 2):
        if not caller.send(frame(HEADERS, END_HEADERS, stream, CALL) + frame(DATA, END_STREAM, stream, BODY)):
            return


MISUSES: dict[str, Callable[[Caller], None]] = {
    misuse.__name__: misuse
    for misuse in (
        oversized_frames,
        broken_padding,
        header_bombs,
        rapid_resets,
        floods,
        nonsense,
        streams_that_run_backwards,
        answers_that_nobody_reads,
    )
}


@pytest.fixture(scope="module", params=TRANSPORTS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server for all of it."""
    folder = tmp_path_factory.mktemp("http2")
    publisher = Publisher(folder / "repository")
    publisher.publish(1)
    options = ("--transport", request.param, "--provider", "cpu", "--drain-linger-s", "0")
    with server_process(publisher.root, folder / "log", *options) as process:
        yield process
        assert process.terminate() == 0


@contextmanager
def calling(server: ServerProcess) -> Iterator[Caller]:
    """A connection, closed in the end."""
    caller = Caller(server.address)
    try:
        yield caller
    finally:
        caller.close()


def answer(client: DigitClient) -> NDArray[np.float32]:
    """The probabilities for three empty images."""
    return client.classify(np.zeros((3, 28, 28), np.uint8)).probabilities


def commit(misuse: str, server: ServerProcess) -> None:
    """Ten times, each on a connection of its own."""
    for _ in range(10):
        with calling(server) as caller:
            MISUSES[misuse](caller)
            caller.read(0.05)


@pytest.mark.parametrize("misuse", MISUSES)
def test_whoever_breaks_http2_harms_nobody_else(server: ServerProcess, misuse: str) -> None:
    """The next caller is answered correctly, at once, and the memory is what it was."""
    with DigitClient(server.address, timeout_s=60) as client:
        expected = answer(client)
        commit(misuse, server)  # buffers reach their size
        before = resident_bytes(server.answering_pid)
        commit(misuse, server)
        assert np.array_equal(answer(client), expected)
    with DigitClient(server.address, timeout_s=60) as another:
        assert np.array_equal(answer(another), expected)
    assert resident_bytes(server.answering_pid) - before < MAY_GROW_BYTES


def kinds(content: bytes) -> set[int]:
    """Of the frames."""
    found = set()
    while content:
        found.add(content[3])
        content = content[9 + int.from_bytes(content[:3], "big") :]
    return found


def test_a_drain_is_told_by_goaway(publisher: Publisher, tmp_path: Path, transport: str) -> None:
    """With the next answer, or at the end: callers connect elsewhere."""
    publisher.publish(1)
    options = ("--transport", transport, "--provider", "cpu", "--drain-linger-s", "0.5")
    with server_process(publisher.root, tmp_path / "log", *options) as server, calling(server) as caller:
        caller.send(frame(HEADERS, END_HEADERS, 1, CALL) + frame(DATA, END_STREAM, 1, BODY))
        assert GOAWAY not in kinds(caller.read())
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        caller.send(frame(HEADERS, END_HEADERS, 3, CALL) + frame(DATA, END_STREAM, 3, BODY))
        assert GOAWAY in kinds(caller.read(silence_s=2))
        assert server.process.wait(60) == 0
