"""Calls that arrive through the engine's own transport."""

from collections.abc import Mapping, Sequence
from functools import partial

from google.protobuf.message_factory import GetMessageClass

from serving.call import Call, Dispatcher, Rpc, Service, rpcs
from serving.engine.transport import health
from serving.engine.transport.connection import Limits
from serving.engine.transport.exchange import Exchange
from serving.engine.transport.grpc import GrpcMethods
from serving.engine.transport.health import Health
from serving.engine.transport.http2 import Http2Exchange
from serving.engine.transport.listener import Listener
from serving.engine.transport.reflection import reflection_methods
from serving.engine.transport.rpc import Request, Role, Stream, Unary
from serving.errors import ServingError, to_status


class HttpTransport:
    """Serves services, health and reflection on one port, which other processes listen on too if `shares_port`."""

    def __init__(
        self, services: Sequence[Service], dispatcher: Dispatcher, *, limits: Limits, shares_port: bool = False
    ) -> None:
        self._shares_port = shares_port
        self._names = [service.descriptor.full_name for service in services]
        self._health = Health()
        methods: list[Unary | Stream] = [*self._health.methods, *reflection_methods([*self._names, health.SERVICE])]
        methods += [_unary(rpc, service, dispatcher) for service in services for rpc in rpcs(service)]
        self._methods = GrpcMethods(methods, max_message_bytes=limits.max_message_bytes)
        self._listener = Listener(self._begin, limits)

    async def start(self, host: str, port: int) -> int:
        """Listen on `host`, a name or an address of this machine, and return the port; 0 takes a free one.

        Raises OSError.
        """
        return await self._listener.start(host, port, shares_port=self._shares_port)

    async def set_serving(self, serving: bool) -> None:
        """What health says, for the server as a whole ("") and for every service."""
        for name in ("", *self._names):
            self._health.set(name, is_serving=serving)

    async def drain(self) -> None:
        """Tell callers to go elsewhere, by health and by GOAWAY."""
        await self.set_serving(False)
        self._listener.drain()

    async def stop(self, grace_s: float) -> None:
        """End the watches, close the port, give what is under way `grace_s` seconds, then end it."""
        self._health.close()
        await self._listener.stop(grace_s)
        self._methods.cancel()

    async def exposition(self) -> str:
        """Nothing."""
        return ""

    def _begin(self, exchange: Exchange) -> None:
        if isinstance(exchange, Http2Exchange):
            self._methods.begin(exchange)


class HttpCall(Call):
    """A call that the engine's transport brought."""

    def __init__(self, request: Request) -> None:
        super().__init__()
        self.arrived = self.queued = request.arrived
        self.deadline = request.deadline
        self._request = request
        request.on_lost = self.abandon

    @property
    def peer(self) -> str:
        """The address of its connection."""
        return self._request.peer

    @property
    def metadata(self) -> Mapping[str, str | bytes]:
        """What was sent beside the request."""
        return self._request.metadata

    def send(self, content: bytes) -> None:
        """Send the response and the trailers."""
        self._request.respond(content, self.trailers)

    def reject(self, error: ServingError) -> None:
        """Send the error and the trailers."""
        self._request.reject(to_status(error), self.trailers)


def _unary(rpc: Rpc, service: Service, dispatcher: Dispatcher) -> Unary:
    method = service.descriptor.methods_by_name[rpc.name]
    response_type = GetMessageClass(method.output_type)
    return Unary(rpc.path, method, rpc.request_type, response_type, partial(_begin, dispatcher, rpc), Role.CLASSIFY)


def _begin(dispatcher: Dispatcher, rpc: Rpc, content: bytes, request: Request) -> None:
    dispatcher.begin(rpc, content, HttpCall(request))
