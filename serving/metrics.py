"""What Prometheus is told: calls, batches, the queue, versions, the process. docs/metrics.md lists it."""

from collections.abc import Callable
from functools import cache
from wsgiref.simple_server import WSGIServer

from google.rpc import code_pb2
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)

from serving.loaded import Loaded
from serving.repository import Refusal

SECONDS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
IMAGES = tuple(2.0**power for power in range(17))


class Metrics:
    """All of them, in a registry of their own, so that two servers in one process do not share them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._server: WSGIServer | None = None
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._calls = Counter("serving_calls", "Calls by method and code", ["method", "code"], registry=self.registry)
        self._seconds = self._histogram("serving_call_seconds", "A call, end to end", SECONDS, ["method"])
        self._queue = self._histogram("serving_queue_seconds", "From a call's arrival to its batch", SECONDS)
        self._compute = self._histogram("serving_compute_seconds", "A run of the model", SECONDS)
        self._batch = self._histogram("serving_batch_images", "Images in a run of the model", IMAGES)
        self._swaps = Counter("serving_swaps", "Versions that began to answer", registry=self.registry)
        self._refusals = Counter("serving_versions_refused", "Versions that were refused", registry=self.registry)
        self._version = Gauge("serving_model_version", "The version that answers; 0 for none", registry=self.registry)
        self._provider = Info("serving_provider", "The execution provider that runs the model", registry=self.registry)

    def start(self, host: str, port: int) -> int:
        """Serve them over HTTP from a thread; returns the port; raises OSError."""
        try:
            self._server, _ = start_http_server(port, host, self.registry)
        except OSError as error:
            raise OSError(f"cannot listen on {host}:{port} for metrics: {error.strerror} (--metrics-port)") from error
        return int(self._server.server_port)

    def close(self) -> None:
        """Stop serving them."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def watch_queue(self, queued_images: Callable[[], int]) -> None:
        """Ask for the length of the queue whenever it is wanted."""
        gauge = Gauge("serving_queued_images", "Images that wait for a run", registry=self.registry)
        gauge.set_function(queued_images)

    def call_answered(self, method: str, code: int, duration_s: float) -> None:
        """Count a call; `code` is a google.rpc.Code."""
        count, seconds = self._of_call(method, code)
        count.inc()
        seconds.observe(duration_s)

    def call_waited(self, queue_s: float) -> None:
        """Count the time that a call stood in the queue."""
        self._queue.observe(queue_s)

    def batch_ran(self, image_count: int, compute_s: float) -> None:
        """Count a run of the model."""
        self._batch.observe(image_count)
        self._compute.observe(compute_s)

    def version_swapped(self, loaded: Loaded) -> None:
        """Count a version that begins to answer."""
        self._swaps.inc()
        self._version.set(loaded.current.version)
        self._provider.info({"provider": loaded.session.provider})

    def version_refused(self, _refusal: Refusal) -> None:
        """Count a version that does not."""
        self._refusals.inc()

    @cache  # noqa: B019 - one Metrics lives as long as its server; looking labels up costs more than counting
    def _of_call(self, method: str, code: int) -> tuple[Counter, Histogram]:
        return self._calls.labels(method, code_pb2.Code.Name(code)), self._seconds.labels(method)

    def _histogram(
        self, name: str, text: str, buckets: tuple[float, ...], labels: list[str] | None = None
    ) -> Histogram:
        return Histogram(name, text, labels or [], buckets=buckets, registry=self.registry)
