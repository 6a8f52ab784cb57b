"""The composition root: everything is built here, each part given what it needs."""

import asyncio
import logging
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from serving.batcher import Batcher
from serving.call import Calls
from serving.config import Settings
from serving.digits import DigitService
from serving.loaded import Loaded
from serving.manifest import Version
from serving.metrics import Metrics
from serving.pixels import Images, PngDecoder
from serving.repository import Repository
from serving.session import CPU, Answers, Session, execution_provider
from serving.transport.grpcio import GrpcioTransport

STOP_GRACE_S = 0.5

log = logging.getLogger(__name__)


class Server:
    """A server, built from settings: `start`, then `drain`. Raises ProviderError when it cannot run as they say."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._provider = execution_provider(settings.provider)
        self._metrics = Metrics()
        self._repository = Repository(
            settings.repository / settings.model,
            self._load,
            self._swapped,
            self._metrics.version_refused,
            versions=settings.versions.split(","),
        )
        self._pool = ThreadPoolExecutor(settings.concurrent_runs, thread_name_prefix="run")
        batcher = Batcher(
            self._run,
            Session.run if self._provider == CPU else None,
            self._metrics,
            max_batch_images=settings.max_image_count,
            max_queue_images=settings.max_queue_images,
            concurrent_runs=settings.concurrent_runs,
        )
        self._decoder = PngDecoder(max_queue_images=settings.max_queue_images)
        service = DigitService(
            self._repository,
            batcher,
            self._decoder,
            max_image_count=settings.max_image_count,
            max_message_bytes=settings.max_message_bytes,
        )
        self._metrics.watch_queue(lambda: batcher.queued_images)
        self._calls = Calls(self._metrics.call_answered)
        self._transport = GrpcioTransport([service], self._calls, max_message_bytes=settings.max_message_bytes)
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.metrics_port: int | None = None

    async def start(self) -> None:
        """Listen, load what CURRENT names and go on watching it; raises OSError where the port cannot be had."""
        if self._settings.metrics_port is not None:
            self.metrics_port = self._metrics.start(self._settings.host, self._settings.metrics_port)
        self.port = await self._transport.start(self._settings.host, self._settings.port)
        await self._repository.refresh()
        self._spawn(self._repository.watch(self._settings.poll_ms / 1000))

    async def drain(self) -> None:
        """Answer every call that was accepted, refuse new ones, then stop.

        First health and refusals tell callers to go elsewhere, while calls already on their way still find an open
        port; only then the port closes (grpcio's stop cancels what it has not yet handed to a handler).
        """
        log.info("draining, for at most %g s", self._settings.drain_s)
        self._calls.drain()
        for task in self._tasks:
            task.cancel()
        await self._transport.set_serving(False)
        await asyncio.sleep(self._settings.drain_linger_s)
        cancelled = await self._calls.finish(self._settings.drain_s)
        if cancelled:
            log.warning("%d calls still run after %g s: they are cancelled", cancelled, self._settings.drain_s)
        await self._transport.stop(STOP_GRACE_S)
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._decoder.close()
        self._repository.close()
        self._metrics.close()
        log.info("stopped")

    def _load(self, version: Version) -> Session:
        session = Session(version, provider=self._provider, threads=self._settings.threads)
        session.check_known_answers(version.known_answers)
        session.warm_up(self._settings.max_image_count)
        return session

    def _swapped(self, loaded: Loaded) -> None:
        self._metrics.version_swapped(loaded)
        self._spawn(self._transport.set_serving(True))

    async def _run(self, session: Session, images: Images) -> Answers:
        return await asyncio.get_running_loop().run_in_executor(self._pool, session.run, images)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
