"""A proxy of the environment: never asked for this machine's own addresses, asked for other hosts."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from serving.client import AsyncDigitClient, DigitClient
from serving.errors import ServingError
from serving.own_address import is_own
from serving.pixels import Images
from tests.programs import ServerProcess, run_program
from tests.serving.test_pixels import png

VARIABLES = ["grpc_proxy", "https_proxy", "http_proxy"]
EVERY = {name for variable in (*VARIABLES, "all_proxy") for name in (variable, variable.upper())}


class Proxy:
    """Notes what it is asked, and refuses it."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.asked.append(connection.recv(4096).splitlines()[0])
                connection.sendall(b"HTTP/1.1 502 No\r\ncontent-length: 0\r\n\r\n")

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy that every variable names."""
    proxy = Proxy()
    for name in EVERY:
        monkeypatch.setenv(name, proxy.url)
    yield proxy
    proxy.close()


@pytest.mark.parametrize("transport", ["grpcio"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_own_addresses_are_called_directly(
    served: ServerProcess, proxy: Proxy, images: Images, host: str, tmp_path: Path
) -> None:
    """By both clients, by the command and by the probe."""
    address = served.address.replace("127.0.0.1", host)
    with DigitClient(address) as client:
        digits = client.classify(images[:3]).digits
    async with AsyncDigitClient(address) as client_too:
        assert np.array_equal((await client_too.classify(images[:3])).digits, digits)
    (tmp_path / "7.png").write_bytes(png(images[0]))
    classified = run_program("serving", "classify", tmp_path / "7.png", "--server", address)
    assert (classified.returncode, str(digits[0]) in classified.stdout) == (0, True), classified.stderr
    probed = run_program("serving.probe", address)
    assert (probed.returncode, probed.stdout) == (0, f"{address} says SERVING\n"), probed.stdout
    assert proxy.asked == []


@pytest.mark.parametrize("variable", VARIABLES)
def test_another_host_is_called_through_the_proxy(proxy: Proxy, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """As the environment says."""
    for name in EVERY - {variable}:
        monkeypatch.delenv(name)
    with DigitClient("server.example:50051", timeout_s=20) as client, pytest.raises(ServingError):
        client.model()
    assert b"CONNECT server.example:50051 HTTP/1.1" in proxy.asked


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:1",
        "127.9.8.7:1",
        "localhost:1",
        "dns:///localhost:1",
        "ipv4:127.0.0.1:1",
        "0.0.0.0:1",
        "[::1]:1",
        "dns:127.0.0.1:1",
        "ipv6:[::1]:1",
    ],
)
def test_addresses_of_this_machine_are_its_own(address: str) -> None:
    """However they are written."""
    if "::" in address and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    assert is_own(address)


@pytest.mark.parametrize("address", ["192.0.2.1:1", "server.invalid:1", "nonsense", "two..dots:1"])
def test_other_addresses_are_not(address: str) -> None:
    """Those of others, and what is no address."""
    assert not is_own(address)
