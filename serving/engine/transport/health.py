"""grpc.health.v1.Health (https://github.com/grpc/grpc/blob/master/doc/health-checking.md)."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from google.protobuf.message import DecodeError
from google.rpc import code_pb2
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse

from serving.engine.transport.rpc import Request, Role, RpcError, Stream, Unary

SERVICE: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

LIVENESS = "liveness"
"""A name that is SERVING as long as the process is well, though it has nothing to serve yet, or drains."""


class Health:
    """What is served, by the full name of a service, "" for the server as a whole."""

    def __init__(self) -> None:
        self._statuses: dict[str, int] = {LIVENESS: HealthCheckResponse.SERVING}
        self._changed = asyncio.Event()
        self._is_closed = False
        methods = health_pb2.DESCRIPTOR.services_by_name["Health"].methods_by_name
        self.methods: list[Unary | Stream] = [
            Unary(
                f"/{SERVICE}/Check",
                methods["Check"],
                HealthCheckRequest,
                HealthCheckResponse,
                self._check,
                Role.PUBLIC,
            ),
            Unary(f"/{SERVICE}/List", methods["List"], HealthListRequest, HealthListResponse, self._list, Role.PUBLIC),
            Stream(f"/{SERVICE}/Watch", self._watch, Role.PUBLIC),
        ]

    def set(self, name: str, *, is_serving: bool) -> None:
        """What `name` is from now on; its watchers are notified."""
        self._statuses[name] = HealthCheckResponse.SERVING if is_serving else HealthCheckResponse.NOT_SERVING
        self._notify()

    def close(self) -> None:
        """End every watch."""
        self._is_closed = True
        self._notify()

    def _check(self, content: bytes, request: Request) -> None:
        try:
            status = self._statuses[_service(content)]
        except RpcError as error:
            request.reject(error.status, ())
        except KeyError:
            request.reject(RpcError(code_pb2.NOT_FOUND, "service: is unknown; List says which there are").status, ())
        else:
            request.respond(HealthCheckResponse(status=status).SerializeToString(), ())

    def _list(self, _content: bytes, request: Request) -> None:
        statuses = {name: HealthCheckResponse(status=status) for name, status in self._statuses.items()}
        request.respond(HealthListResponse(statuses=statuses).SerializeToString(), ())

    async def _watch(self, requests: AsyncIterator[bytes], _request: Request) -> AsyncGenerator[bytes, None]:
        """The status of a service, and each change of it; one that is not there may come."""
        first = await anext(requests, None)
        if first is None:
            raise RpcError(code_pb2.INVALID_ARGUMENT, "request: got no message, expected 1")
        name, sent = _service(first), None
        while not self._is_closed:
            changed, status = self._changed, self._statuses.get(name, HealthCheckResponse.SERVICE_UNKNOWN)
            if status != sent:
                sent = status
                yield HealthCheckResponse(status=status).SerializeToString()
            else:
                await changed.wait()
        raise RpcError(code_pb2.UNAVAILABLE, "the server is shutting down; call another one")

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _service(content: bytes) -> str:
    try:
        return str(HealthCheckRequest.FromString(content).service)
    except DecodeError as error:
        message = f"request: cannot parse {len(content)} bytes as grpc.health.v1.HealthCheckRequest"
        raise RpcError(code_pb2.INVALID_ARGUMENT, message) from error
