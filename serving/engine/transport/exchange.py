"""One HTTP request and the response to it, whatever version of HTTP carries them."""

from collections.abc import Callable, Sequence
from enum import Enum

Header = tuple[bytes, bytes]
Headers = Sequence[Header]


class Rejection(Enum):
    """Why a connection takes no more of a request's body."""

    TOO_LARGE = "it is longer than allowed"
    STALLED = "nothing of it arrived for `request_timeout_s`"
    NO_ROOM = "all connections together hold `max_held_bytes`"


def ignore(*_: object) -> None:
    """What an exchange calls unless its handler wants to know."""


class Exchange:
    """A request whose headers have arrived, and the way back to its caller.

    A connection makes it, hands it to a handler, then calls `on_data` with each part of the body and `on_end` after the
    last, or `on_lost` if the caller goes away before the response is complete. The handler sets what it needs of them
    and sends a response at any time: by `respond`, or by `start`, `write` and `finish`. Once `is_over`, sending does
    nothing. All of it happens in the event loop's thread.
    """

    __slots__ = (
        "arrived",
        "body_bytes",
        "headers",
        "is_complete",
        "is_over",
        "max_body_bytes",
        "method",
        "on_data",
        "on_end",
        "on_lost",
        "on_rejected",
        "parts",
        "path",
        "query",
    )

    version = b"2"
    """The version of HTTP."""

    def __init__(self, method: bytes, target: bytes, headers: dict[bytes, bytes], arrived: float) -> None:
        self.method = method
        self.path, _, self.query = target.partition(b"?")
        self.headers = headers
        """By names in lower case; the values of a repeated one joined by commas."""
        self.arrived = arrived
        """When the bytes arrived, seconds on time.monotonic."""
        self.parts: list[bytes] = []
        """The body, so far."""
        self.body_bytes = 0
        """The length of the body so far."""
        self.max_body_bytes = 0
        """A longer body is rejected; set by the handler."""
        self.is_complete = False
        """Whether the request is there as a whole."""
        self.is_over = False
        """Whether the response is complete, or the caller has gone."""
        self.on_data: Callable[[bytes], object] = self.parts.append
        self.on_end: Callable[[], object] = ignore
        self.on_lost: Callable[[], object] = ignore
        self.on_rejected: Callable[[Rejection], object] = ignore
        """Called when no more of the body is taken; the handler responds with the reason."""

    @property
    def body(self) -> bytes:
        """The body, so far."""
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)

    @property
    def peer(self) -> str:
        """The caller's address as grpcio writes it, such as "ipv4:127.0.0.1:50000"."""
        raise NotImplementedError

    @property
    def caller(self) -> str:
        """Who calls: the name in the certificate that was verified; empty without one."""
        raise NotImplementedError

    def respond(self, status: int, headers: Headers, body: bytes = b"", trailers: Headers | None = None) -> None:
        """Send a whole response. With `trailers` an HTTP/2 stream ends by them."""
        self.start(status, headers)
        if body:
            self.write(body)
        self.finish(trailers or ())

    def start(self, status: int, headers: Headers) -> None:
        """Send the status and headers of a response that is not whole yet."""
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        """Send a part of its body."""
        raise NotImplementedError

    def finish(self, trailers: Headers = ()) -> None:
        """End the response."""
        raise NotImplementedError

    def abort(self) -> None:
        """End it without a complete response: the caller sees a broken one."""
        raise NotImplementedError

    async def writable(self) -> None:
        """Wait until the caller has taken most of what was written; returns at once when it has gone."""
        raise NotImplementedError

    def consumed(self, size: int) -> None:
        """Let the caller send `size` bytes more, for a handler that does not keep the body."""
        raise NotImplementedError
