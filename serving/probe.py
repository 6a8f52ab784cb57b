"""`python -m serving.probe HOST:PORT`: whether a server serves, by the health protocol, for what watches containers.

It imports as little as it can: it runs every few seconds. Exit codes: 0 it serves, 1 it does not, 2 wrong usage.
"""

import argparse
import sys
from contextlib import closing
from http.client import HTTPConnection, HTTPException

from serving.printable import printable

TIMEOUT_S = 2.0


def main(arguments: list[str] | None = None) -> int:
    """Ask once; print the answer."""
    parser = argparse.ArgumentParser(prog="python -m serving.probe", description="Ask a server whether it serves.")
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("--http", action="store_true", help="by GET /healthz instead of grpc.health.v1.Health")
    parser.add_argument("--https", action="store_true", help="the same with TLS; no certificate is checked")
    options = parser.parse_args(arguments)
    ask = _ask_http if options.http or options.https else _ask_grpc
    is_serving, said = ask(options.address, options.https)
    print(printable(said))
    return 0 if is_serving else 1


def _ask_http(address: str, has_tls: bool) -> tuple[bool, str]:
    try:
        with closing(_tls(address) if has_tls else HTTPConnection(address, timeout=TIMEOUT_S)) as connection:
            connection.request("GET", "/healthz")
            status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return False, f"{address} does not answer: {error}"
    return status == 200, f"{address} answers GET /healthz with {status}"


def _tls(address: str) -> HTTPConnection:
    """It asks itself: whether others trust the certificate is not the question."""
    import ssl
    from http.client import HTTPSConnection

    return HTTPSConnection(address, timeout=TIMEOUT_S, context=ssl._create_unverified_context())  # noqa: S323


def _ask_grpc(address: str, _has_tls: bool) -> tuple[bool, str]:
    import grpc  # not for who asks by HTTP: the door's image has no grpcio
    from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
    from grpc_health.v1.health_pb2_grpc import HealthStub

    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            response = HealthStub(channel).Check(HealthCheckRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return False, f"{address} does not answer: {error.code().name}: {error.details()}"
    name = HealthCheckResponse.ServingStatus.Name(response.status)
    return response.status == HealthCheckResponse.SERVING, f"{address} says {name}"


if __name__ == "__main__":
    sys.exit(main())
