"""Which addresses are this machine's own: those are called directly, whatever proxy the environment names."""

import os
import re
import socket

PROXIES = {"grpc_proxy", "https_proxy", "http_proxy"}
"""The variables that grpcio reads."""


def is_own(address: str) -> bool:
    """Whether `address`, HOST:PORT, is of this machine: a socket can be bound to it. Resolves the name of HOST."""
    host = re.sub("^(dns|ipv4|ipv6):", "", address.rpartition("/")[2]).rpartition(":")[0].strip("[]")
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(where)
    except (OSError, UnicodeError):  # UnicodeError: no name of a host
        return False
    return True


def without_proxy(address: str) -> list[tuple[str, int]]:
    """The options of a grpcio channel to `address`: no proxy for an own one; nothing is resolved where none is set."""
    return [("grpc.enable_http_proxy", 0)] if PROXIES & os.environ.keys() and is_own(address) else []
