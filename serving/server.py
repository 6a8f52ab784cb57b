"""The composition root: everything is built here, each part given what it needs."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from protos.artifact.v1.manifest_pb2 import Current
from serving.aside import Aside
from serving.batching import admission
from serving.batching.batcher import Batcher
from serving.call import Dispatcher, Service, Transport
from serving.config import Settings
from serving.decoder import Decoder
from serving.digits import DigitService
from serving.engine.transport.connection import Limits
from serving.errors import DeviceMemoryError, VersionNotReadyError
from serving.provider import CPU, CUDA, execution_provider
from serving.session import Session
from serving.telemetry.metrics import Metrics
from serving.transport.grpcio import GrpcioTransport
from serving.transport.http import HttpTransport
from serving.versions.loaded import Loaded
from serving.versions.manifest import Version
from serving.versions.repository import Refusal, Repository, SwapGate

if TYPE_CHECKING:
    from serving.telemetry.tracing import Tracing

STOP_GRACE_S = 0.5
MAX_BATCH_IMAGES = {CPU: 128, CUDA: 1024}
"""What is run at once unless it is set: a card is hardly busy with what keeps a core busy for long."""
MAX_LOOKING = 64  # images that wait to be looked into, layer by layer: people look, one at a time

MakeTransport = Callable[[Settings, Sequence[Service], Dispatcher], Transport]
"""Makes what brings the calls."""

T = TypeVar("T")

log = logging.getLogger(__name__)


class Server:
    """A server, built from settings: `start`, then `drain`. Raises ProviderError when it cannot run as they say.

    `gate` is what one of several workers passes before it swaps. `make_transport` stands in for the one
    of the settings.
    """

    def __init__(
        self, settings: Settings, gate: SwapGate | None = None, make_transport: MakeTransport | None = None
    ) -> None:
        self._settings = settings
        self._gate = gate
        self._provider = execution_provider(settings.provider)
        self._max_batch_images = settings.max_batch_images or MAX_BATCH_IMAGES[self._provider]
        self._metrics = Metrics()
        self._repository = Repository(
            settings.repository / settings.model,
            self._load,
            self._swapped,
            self._refused,
            gate,
            versions=settings.versions.split(","),
            load_limit_s=settings.load_timeout_s,
        )
        self._pool = ThreadPoolExecutor(settings.concurrent_runs, thread_name_prefix="run")
        batcher = Batcher[Session](
            self._in_thread,
            self._metrics,
            runs_inline=self._provider == CPU,
            max_batch_rows=self._max_batch_images,
            limits=admission.Limits(settings.max_queue_images, settings.max_queue_ms / 1000),
            concurrent_runs=settings.concurrent_runs,
        )
        self._decoder = Decoder(max_queue_images=settings.max_queue_images, max_photo_pixels=settings.max_photo_pixels)
        self._aside = Aside("images to be looked into", max_waiting=min(MAX_LOOKING, settings.max_queue_images))
        service = DigitService(
            self._repository,
            batcher,
            self._decoder,
            self._aside,
            max_image_count=settings.max_image_count,
            max_message_bytes=settings.max_message_bytes,
        )
        self._metrics.watch_queue(lambda: batcher.queued_rows)
        self._metrics.watch_refusals(lambda: self._repository.refusals)
        self._tracing = _tracing(settings.otlp_endpoint)
        self._dispatcher = Dispatcher(self._metrics.call_answered, self._tracing.trace if self._tracing else None)
        own = _make_grpcio if settings.transport == "grpcio" else _make_http2
        make = make_transport or partial(own, shares_port=gate is not None)
        self._transport: Transport = make(settings, [service], self._dispatcher)
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.metrics_port: int | None = None
        self.broken: asyncio.Future[str] | None = None
        """Nothing: what breaks a server of one process ends the process."""

    async def start(self, serves: Current | None = None) -> None:
        """Listen, load what CURRENT names and go on watching it; raises OSError where the port cannot be had.

        `serves` is what the other processes behind the port answer with.
        """
        if self._settings.metrics_port is not None:
            self.metrics_port = self._metrics.start(self._settings.host, self._settings.metrics_port)
        await self._transport.set_serving(False)
        if serves:
            await self._repository.restore(serves)
        if self._gate:  # the port has callers already: once it listens it must have an answer
            await self._repository.refresh()
        self.port = await self._transport.start(self._settings.host, self._settings.port)
        await self._repository.refresh()
        self._spawn(self._repository.watch(self._settings.poll_ms / 1000))

    async def drain(self) -> None:
        """Answer every call that was accepted, refuse new ones, then stop.

        First health and refusals tell callers to go elsewhere, while calls already on their way still find an open
        port; only then the port closes (what a transport has not yet handed over then is lost).
        """
        log.info("draining, for at most %g s", self._settings.drain_s)
        self._dispatcher.drain()
        for task in self._tasks:
            task.cancel()
        await self._transport.drain()
        await asyncio.sleep(self._settings.drain_linger_s)
        cancelled = await self._dispatcher.finish(self._settings.drain_s)
        if cancelled:
            log.warning("%d calls still run after %g s: they are cancelled", cancelled, self._settings.drain_s)
            self._dispatcher.end()
        await self._transport.stop(STOP_GRACE_S)
        if self._tracing:
            await asyncio.to_thread(self._tracing.close)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._decoder.close()
        self._aside.close()
        self._metrics.close()
        log.info("stopped")

    async def exposition(self) -> str:
        """All metrics, the transport's included, in Prometheus' text format."""
        return await asyncio.to_thread(self._metrics.exposition) + await self._transport.exposition()

    def _load(self, version: Version) -> Session:
        settings = self._settings
        session = Session(
            version,
            provider=self._provider,
            threads=settings.threads,
            lanes=settings.concurrent_runs,
            gpu_memory_mib=settings.gpu_memory_mib,
        )
        try:
            with session.limit(settings.load_timeout_s):
                session.check_known_answers(version.known_answers)
                session.warm_up(self._max_batch_images)
        except DeviceMemoryError as error:
            raise VersionNotReadyError(f"model.onnx: {error}") from error
        return session

    def _swapped(self, loaded: Loaded) -> None:
        self._metrics.version_swapped(loaded)
        self._spawn(self._transport.set_serving(True))

    def _refused(self, refusal: Refusal) -> None:
        self._metrics.version_refused(refusal)
        if self._gate and refusal is self._repository.refusal:  # not of a further version
            self._gate.refused(refusal)

    def _in_thread(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        return asyncio.get_running_loop().run_in_executor(self._pool, work)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _make_grpcio(
    settings: Settings,
    services: Sequence[Service],
    dispatcher: Dispatcher,
    *,
    shares_port: bool,
) -> GrpcioTransport:
    return GrpcioTransport(
        services,
        dispatcher,
        max_message_bytes=settings.max_message_bytes,
        shares_port=shares_port,
    )


def _make_http2(
    settings: Settings, services: Sequence[Service], dispatcher: Dispatcher, *, shares_port: bool
) -> HttpTransport:
    limits = Limits(
        max_connections=settings.max_connections,
        max_streams=settings.max_concurrent_streams,
        request_timeout_s=settings.request_timeout_s,
        idle_timeout_s=settings.idle_timeout_s,
        max_message_bytes=settings.max_message_bytes,
        max_connection_bytes=max(64 << 20, 3 * settings.max_message_bytes),
    )
    return HttpTransport(services, dispatcher, limits=limits, shares_port=shares_port)


def _tracing(endpoint: str | None) -> "Tracing | None":
    if endpoint is None:
        return None
    from serving.telemetry.tracing import (
        Tracing,  # here, so that nothing of OpenTelemetry is loaded where nobody traces
    )

    return Tracing(endpoint)
