"""Calls that arrive through grpcio's own server (asyncio). Deprecated: an insurance for one release."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import NoReturn, cast

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from serving.call import AwaitedCall, Call, Dispatcher, Rpc, Service, rpcs
from serving.engine.transport.port import cannot_listen
from serving.errors import ServingError, to_status

Context = grpc.aio.ServicerContext[bytes, bytes]
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class GrpcioTransport:
    """Serves services, health and reflection on one port, which other processes listen on too if `shares_port`."""

    def __init__(
        self,
        services: Sequence[Service],
        dispatcher: Dispatcher,
        *,
        max_message_bytes: int,
        shares_port: bool = False,
    ) -> None:
        self._dispatcher = dispatcher
        self._names = [service.descriptor.full_name for service in services]
        self._health = _Health()
        options = [("grpc.so_reuseport", int(shares_port)), ("grpc.max_receive_message_length", max_message_bytes)]
        self._server = grpc.aio.server(options=options)
        for service in services:
            handlers = {rpc.name: self._handler(rpc) for rpc in rpcs(service)}
            self._server.add_registered_method_handlers(service.descriptor.full_name, handlers)
            # grpcio before its aio server had registered methods ignores them without a word.
            generic = grpc.method_handlers_generic_handler(service.descriptor.full_name, handlers)
            self._server.add_generic_rpc_handlers((generic,))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection([*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server)

    async def start(self, host: str, port: int) -> int:
        """Listen on `host`, a name or an address of this machine, and return the port; 0 takes a free one.

        Raises OSError.
        """
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise cannot_listen(address) from error
        await self._server.start()
        return port

    async def set_serving(self, serving: bool) -> None:
        """What health says, for the server as a whole ("") and for every service."""
        for name in ("", *self._names):
            await self._health.set(name, SERVING if serving else NOT_SERVING)

    async def drain(self) -> None:
        """Tell callers to go elsewhere, by health: only `stop` sends GOAWAY."""
        await self.set_serving(False)

    async def exposition(self) -> str:
        """Nothing: grpcio has no figures."""
        return ""

    async def stop(self, grace_s: float) -> None:
        """Close the port, give calls in flight `grace_s` seconds, then cancel them."""
        self._health.close()
        await self._server.stop(grace_s)

    def _handler(self, rpc: Rpc) -> "grpc.RpcMethodHandler[bytes, bytes]":
        async def handle(content: bytes, context: Context) -> bytes:
            call = GrpcioCall(context)
            try:
                response = await self._dispatcher.answer(rpc, content, call)
            except ServingError as error:
                await _abort(context, error, call)
            if call.trailers:
                context.set_trailing_metadata(tuple(call.trailers))
            return response

        # Without a deserializer grpcio hands over the bytes: what cannot be parsed is then answered by us.
        return grpc.unary_unary_rpc_method_handler(handle)


class GrpcioCall(AwaitedCall):
    """A call that grpcio brought."""

    def __init__(self, context: Context) -> None:
        super().__init__(cast("float | None", context.time_remaining()))
        self._context = context

    @property
    def peer(self) -> str:
        """As grpcio writes it."""
        return self._context.peer()

    @property
    def metadata(self) -> Mapping[str, str | bytes]:
        """Keys in lower case; binary values end in "-bin"."""
        return dict(self._context.invocation_metadata() or ())


class _Health(health.aio.HealthServicer):  # type: ignore[misc]  # the package has no types
    """The standard health service, whose watches can be ended: grpcio would cancel them, and log each as an error."""

    def __init__(self) -> None:
        super().__init__()
        self._closed = asyncio.Event()

    def close(self) -> None:
        """End every watch."""
        self._closed.set()

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:  # noqa: N802 - the RPC's name
        """Stream the status of a service, and each change of it."""
        tasks = [asyncio.create_task(super().Watch(request, context)), asyncio.create_task(self._closed.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()


async def _abort(context: Context, error: ServingError, call: Call) -> NoReturn:
    status = rpc_status.to_status(to_status(error))
    await context.abort(status.code, status.details, (*status.trailing_metadata, *call.trailers))
