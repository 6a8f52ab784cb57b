"""Services, health and reflection behind an Envoy that this Python is inside of."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from google.protobuf.message import Message
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from serving.call import Dispatcher, Service, rpcs
from serving.envoy.admin import Admin
from serving.envoy.listener import STATS
from serving.envoy.routes import HEALTH_PAGE
from serving.files import File
from serving.transport import health
from serving.transport.asgi import AsgiCall, GrpcApp, Stream
from serving.transport.health import Health
from serving.transport.pages import show

LOOK_S = 0.02
"""How often Envoy is asked whether something has come about."""


class EnvoyTransport:
    """What a server inside Envoy starts and stops; `app` is what Envoy calls.

    `begin` lets Envoy go on with its own start, after which it listens; `folder` has its admin socket, `files` are
    for browsers, by path.
    """

    def __init__(
        self,
        services: Sequence[Service],
        dispatcher: Dispatcher,
        *,
        max_message_bytes: int,
        folder: Path,
        files: Mapping[str, File],
        begin: Callable[[], None],
    ) -> None:
        self._begin = begin
        self._admin = Admin(folder)
        self._names = [service.descriptor.full_name for service in services]
        self._health = Health()
        methods = {rpc.path: partial(dispatcher.answer, rpc) for service in services for rpc in rpcs(service)}
        self.app = GrpcApp(
            methods | self._health.methods,
            self._health.streams | _reflection([*self._names, health.SERVICE, reflection.SERVICE_NAME]),
            max_message_bytes=max_message_bytes,
            pages={path: show(file) for path, file in files.items()} | {HEALTH_PAGE: self._health.page},
        )

    async def start(self, _host: str, port: int) -> int:
        """Wait until Envoy listens, on the host and port of its configuration; return the port."""
        self._begin()
        while not await self._admin.is_listening():  # noqa: ASYNC110 - Envoy tells of nothing by itself
            await asyncio.sleep(LOOK_S)
        return port

    async def set_serving(self, serving: bool) -> None:
        """What health says, for the server as a whole ("") and for every service."""
        for name in ("", *self._names):
            self._health.set(name, HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING)

    async def drain(self) -> None:
        """Tell callers to go elsewhere."""
        await self.set_serving(False)
        await self._admin.drain()

    async def stop(self, grace_s: float) -> None:
        """End the watches, cancel what still runs, and wait until Envoy has handed over every response.

        For at most `grace_s` seconds.
        """
        self._health.close()
        self.app.cancel()
        give_up = time.monotonic() + grace_s
        while await self._admin.stat(f"{STATS}downstream_rq_active") and time.monotonic() < give_up:  # noqa: ASYNC110
            await asyncio.sleep(LOOK_S)

    async def end(self) -> None:
        """End Envoy, and this process with it."""
        await self._admin.end()

    async def exposition(self) -> str:
        """Envoy's own figures, in Prometheus' text format."""
        return await self._admin.exposition()


def _reflection(names: Sequence[str]) -> dict[str, Stream]:
    servicer = reflection.aio.ReflectionServicer(names)

    async def answer(contents: AsyncIterator[bytes], _call: AsgiCall) -> AsyncGenerator[bytes, None]:
        requests = (ServerReflectionRequest.FromString(content) async for content in contents)
        response: Message
        async for response in servicer.ServerReflectionInfo(requests, None):
            yield response.SerializeToString()

    return {f"/{reflection.SERVICE_NAME}/ServerReflectionInfo": answer}
