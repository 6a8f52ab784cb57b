"""grpc.health.v1.Health, for a transport that brings no health service of its own."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping

from google.rpc import code_pb2
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from serving.transport.asgi import AsgiCall, ProtocolError, Stream, Unary
from serving.transport.pages import Page, as_json

SERVICE: str = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class Health:
    """What is served, by the full name of a service, "" for the server as a whole."""

    def __init__(self) -> None:
        self._statuses: dict[str, int] = {}
        self._changed = asyncio.Event()
        self._is_closed = False
        self.methods: dict[str, Unary] = {f"/{SERVICE}/Check": self._check}
        self.streams: dict[str, Stream] = {f"/{SERVICE}/Watch": self._watch}

    def set(self, name: str, status: int) -> None:
        """What `name` is from now on, and tell who watches it."""
        self._statuses[name] = status
        self._tell()

    def close(self) -> None:
        """End every watch."""
        self._is_closed = True
        self._tell()

    def page(self, _asked: Mapping[bytes, bytes]) -> Page:
        """The same of the server as a whole, for those who ask by HTTP: 200, or 503 when it does not serve."""
        status = self._statuses.get("", HealthCheckResponse.UNKNOWN)
        is_serving = status == HealthCheckResponse.SERVING
        return as_json(200 if is_serving else 503, {"status": HealthCheckResponse.ServingStatus.Name(status)})

    async def _check(self, content: bytes, _call: AsgiCall) -> bytes:
        name = HealthCheckRequest.FromString(content).service
        if name not in self._statuses:
            raise ProtocolError(code_pb2.NOT_FOUND, f"there is no service {name!r}")
        return _response(self._statuses[name])

    async def _watch(self, requests: AsyncIterator[bytes], _call: AsgiCall) -> AsyncGenerator[bytes, None]:
        """The status of a service, and each change of it; one that is not there may come."""
        request = await anext(requests, None)
        if request is None:
            raise ProtocolError(code_pb2.INVALID_ARGUMENT, "came no request, expected one")
        name = HealthCheckRequest.FromString(request).service
        async for _ in requests:  # to the end of the request: only then it is asked whether the caller has gone
            raise ProtocolError(code_pb2.INVALID_ARGUMENT, "came several requests, expected one")
        told = None
        while not self._is_closed:
            changed, status = self._changed, self._statuses.get(name, HealthCheckResponse.SERVICE_UNKNOWN)
            if status != told:
                told = status
                yield _response(status)
            else:
                await changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _response(status: int) -> bytes:
    content: bytes = HealthCheckResponse(status=status).SerializeToString()
    return content
