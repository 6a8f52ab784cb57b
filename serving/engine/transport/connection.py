"""What connections have in common, and what they need of the listener that accepted them."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from serving.engine.transport.exchange import Exchange


@dataclass(frozen=True)
class Limits:
    """What one connection may ask for."""

    max_connections: int = 4096
    max_streams: int = 1024
    """Requests at the same time on one HTTP/2 connection."""
    max_header_bytes: int = 32 * 1024
    max_headers: int = 100
    header_timeout_s: float = 10.0
    """For the first bytes of a connection, and for the headers of a request that has begun."""
    request_timeout_s: float = 60.0
    """For the body of a request."""
    write_timeout_s: float = 60.0
    """For a caller that takes nothing of what it is sent."""
    idle_timeout_s: float = 3600.0
    """For a connection without a request."""
    max_message_bytes: int = 4 * 2**20
    max_held_bytes: int = 512 * 2**20
    """Bodies and responses that are in memory, of all connections."""
    max_connection_bytes: int = 16 * 2**20
    """Of one: a caller that sends more has to wait until some of it is answered."""


class Host(Protocol):
    """The listener, as a connection sees it."""

    limits: Limits
    held_bytes: int
    """What all connections hold; each adds and subtracts its own part."""

    def begin(self, exchange: Exchange) -> None:
        """The headers of a request have arrived: hand it to its handler, which may respond at once; raises nothing."""

    def opened(self, connection: "Connection") -> bool:
        """Count a connection; False where there are too many, and it must be closed."""

    def closed(self, connection: "Connection") -> None:
        """It is gone."""


class Connection(asyncio.Protocol):
    """One connection, of any version of HTTP."""

    transport: asyncio.Transport

    @property
    def is_busy(self) -> bool:
        """Whether a request on it is not answered yet."""
        raise NotImplementedError

    def check(self, now: float) -> None:
        """Close it if one of its timers has passed; called every second with time.monotonic."""
        raise NotImplementedError

    def drain(self) -> None:
        """Tell the caller to send no more requests here; those that have begun are answered."""
        raise NotImplementedError

    def finish(self) -> None:
        """Take no more requests; callers may repeat elsewhere those that arrive all the same."""
        raise NotImplementedError

    def end(self) -> None:
        """Close it now, with what it has been told to send; open requests are lost."""
        raise NotImplementedError


def peer_of(transport: asyncio.BaseTransport) -> str:
    """The caller's address as grpcio writes it: "ipv4:127.0.0.1:50000", "ipv6:[::1]:50000" or "unix:"."""
    name = transport.get_extra_info("peername")
    if not isinstance(name, tuple):
        return "unix:"
    host, port = name[:2]
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"


def caller_of(transport: asyncio.BaseTransport) -> str:
    """The common name in the certificate that the caller was verified by; empty without one."""
    certificate = transport.get_extra_info("peercert") or {}
    return next((value for rdn in certificate.get("subject", ()) for key, value in rdn if key == "commonName"), "")
