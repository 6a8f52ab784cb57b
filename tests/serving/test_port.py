"""A reserved port is ours alone, though several of our processes may listen on it."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from serving.call import Dispatcher
from serving.engine.transport.connection import Limits
from serving.engine.transport.port import ReservedPort
from serving.transport.http import HttpTransport


@pytest.fixture(params=["127.0.0.1", "localhost", "0.0.0.0"])  # noqa: S104 - what is meant
def port(request: pytest.FixtureRequest) -> Iterator[ReservedPort]:
    """A free port, reserved."""
    with closing(ReservedPort(request.param, 0)) as port:
        yield port


def listen(port: int, *, shares: bool) -> socket.socket:
    """Listen as grpcio does."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shares))
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def test_workers_may_listen_on_it(port: ReservedPort) -> None:
    """Two of them, and one that comes later; the reservation itself gets no connection."""
    with listen(port.number, shares=True), listen(port.number, shares=True):
        socket.create_connection(("127.0.0.1", port.number)).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port.number))
    listen(port.number, shares=True).close()


def test_a_server_of_one_process_may_not(port: ReservedPort) -> None:
    """With workers or without."""
    with pytest.raises(OSError, match="in use"):
        listen(port.number, shares=False)
    with listen(port.number, shares=True), pytest.raises(OSError, match="in use"):
        listen(port.number, shares=False)


def test_nobody_else_may_reserve_it(port: ReservedPort) -> None:
    """With workers or without; the message says what to do."""
    with pytest.raises(OSError, match=f"cannot listen on localhost:{port.number}: .*--port"):
        ReservedPort("localhost", port.number)
    with listen(port.number, shares=True), pytest.raises(OSError, match="cannot listen"):
        ReservedPort("127.0.0.1", port.number)


def test_a_port_on_which_somebody_listens_cannot_be_reserved() -> None:
    """Also where the other one would share it."""
    with listen(0, shares=True) as other, pytest.raises(OSError, match="cannot listen"):
        ReservedPort("127.0.0.1", other.getsockname()[1])


def test_a_port_can_be_reserved_again_at_once() -> None:
    """Connections of a server that has ended linger in the kernel for a minute; they do no harm."""
    with listen(0, shares=False) as server:
        address = server.getsockname()
        with socket.create_connection(address):
            server.accept()[0].close()  # the side that closes first lingers
    for _ in range(2):
        with closing(ReservedPort(*address)), listen(address[1], shares=True):
            pass


def test_an_address_of_another_machine_cannot_be_reserved() -> None:
    """192.0.2.1 is nobody's."""
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1:50051"):
        ReservedPort("192.0.2.1", 50051)


async def test_one_process_takes_the_port_for_itself() -> None:
    """Several share it among themselves, and so with any other that would share; one does not."""
    transport = HttpTransport([], Dispatcher(), limits=Limits())
    port = await transport.start("127.0.0.1", 0)
    try:
        with pytest.raises(OSError, match="in use"):
            listen(port, shares=True)
    finally:
        await transport.stop(0)
