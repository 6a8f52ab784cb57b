"""A port that several listeners of ours share: nobody else has it when they come.

Who comes later and sets SO_REUSEPORT, as grpcio does unless told otherwise, gets a share of the connections, if it is a
process of the same user: the kernel asks no more.
"""

import errno
import socket

_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""Of an address that the name has and this machine has not, such as ::1 without IPv6: grpcio passes over it too."""


class ReservedPort:
    """Holds a port without listening, until it is closed; processes that set SO_REUSEPORT may listen on it.

    `host` is a name or an address of this machine, port 0 takes a free one. Raises OSError when anybody has the port,
    another ReservedPort included.
    """

    def __init__(self, host: str, port: int) -> None:
        self.number = port
        self._sockets: list[socket.socket] = []
        try:
            self._reserve(host)
        except OSError as error:
            self.close()
            raise cannot_listen(f"{host}:{self.number}") from error

    def close(self) -> None:
        """Give it back."""
        for held in self._sockets:
            held.close()

    def _reserve(self, host: str) -> None:
        """Every address that `host` means here; raises OSError when that is none."""
        for family, address in addresses(host):
            self._hold(family, address)

    def _hold(self, family: int, address: str) -> None:
        if not self.number:
            with socket.socket(family) as free:
                free.bind((address, 0))
                self.number = free.getsockname()[1]
        held = socket.socket(family)
        try:
            # Connections of a server that has ended linger in the kernel; with SO_REUSEADDR only living sockets clash.
            # The clash comes with listen(), not with bind(), where the other one holds the port as we do.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.bind((address, self.number))
            held.listen()
            # Ours alone so far. From here on workers may join, and the next one that tries these steps clashes.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.shutdown(socket.SHUT_RD)  # listens no more, stays bound
        except OSError:
            held.close()
            raise
        self._sockets.append(held)


def addresses(host: str) -> list[tuple[int, str]]:
    """Family and address, once each, of all that `host` means on this machine; raises OSError if that is none."""
    found, fault = [], OSError(f"{host} has no address")
    for family, _, _, _, address in socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM):
        try:
            with socket.socket(family) as probe:
                probe.bind((address[0], 0))
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
            fault = error
        else:
            found.append((int(family), str(address[0])))
    if not found:
        raise fault
    return list(dict.fromkeys(found))


def cannot_listen(address: str) -> OSError:
    """The error that says so."""
    return OSError(f"cannot listen on {address}: is it an address of this machine, and the port free? (--host, --port)")
