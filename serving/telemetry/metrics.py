"""What Prometheus is told: calls, batches, the queue, versions, the process. docs/metrics.md lists it."""

from collections.abc import Callable, Sequence
from functools import cache
from wsgiref.simple_server import WSGIServer

from google.rpc import code_pb2
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Info,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
    start_http_server,
)

from serving.batching.queue import Dispatch
from serving.errors import STATUSES, Status
from serving.telemetry import counting
from serving.telemetry.counting import CounterFamily, HistogramFamily
from serving.versions.loaded import Loaded
from serving.versions.repository import Refusal

SECONDS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
IMAGES = tuple(2**power for power in range(17))


class Metrics:
    """All of them, in a registry of their own, so that two servers in one process do not share them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._server: WSGIServer | None = None
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._calls = CounterFamily("serving_calls", "Calls by method and code", ["method", "code"], self.registry)
        self._refused_calls = CounterFamily("serving_refusals", "Refused calls by reason", ["reason"], self.registry)
        for status in STATUSES.values():
            self._refused_calls.labels(status.reason)  # from 0 on, so that the first refusal is an increase
        self._seconds = self._histogram("serving_call_seconds", "A call, end to end", SECONDS, "method")
        self._queue = self._histogram("serving_queue_seconds", "From a call's arrival to its batch", SECONDS).labels()
        self._compute = self._histogram("serving_compute_seconds", "A run of the model", SECONDS).labels()
        self._batch = self._histogram("serving_batch_images", "Images in a run of the model", IMAGES).labels()
        self._batches = CounterFamily(
            "serving_batches", "Runs of the model, by why they began", ["dispatch"], self.registry
        )
        self._swaps = Counter("serving_swaps", "Model versions activated", registry=self.registry)
        self._refusals = Counter("serving_versions_refused", "Model versions not loaded", registry=self.registry)
        self._version = Gauge("serving_model_version", "The version that answers; 0 for none", registry=self.registry)
        self._provider = Info("serving_provider", "The execution provider that runs the model", registry=self.registry)

    def start(self, host: str, port: int) -> int:
        """Serve them over HTTP from a thread; returns the port; raises OSError."""
        self._server = serve_http(self.registry, host, port)
        return int(self._server.server_port)

    def exposition(self) -> str:
        """All of them, in Prometheus' text format."""
        return generate_latest(self.registry).decode()

    def close(self) -> None:
        """Stop serving them."""
        close_http(self._server)

    def watch_queue(self, queued_images: Callable[[], int]) -> None:
        """Ask for the length of the queue whenever it is wanted."""
        gauge = Gauge("serving_queued_images", "Images that wait for a run", registry=self.registry)
        gauge.set_function(queued_images)

    def watch_refusals(self, refusals: Callable[[], Sequence[Refusal]]) -> None:
        """Ask which versions should be served and are not, whenever it is wanted."""
        gauge = Gauge(
            "serving_versions_failing", "Model versions that cannot be loaded now", ["state"], registry=self.registry
        )
        gauge.labels("retrying").set_function(lambda: sum(refusal.is_retrying for refusal in refusals()))
        gauge.labels("rejected").set_function(lambda: sum(not refusal.is_retrying for refusal in refusals()))

    def call_answered(self, method: str, status: Status, duration_s: float) -> None:
        """Count a call, and how it ended."""
        count, seconds = self._of_call(method, status)
        count.inc()
        seconds.observe(duration_s)
        if status.reason:
            self._refused_calls.labels(status.reason).inc()

    def calls_waited(self, began: float, queued: Sequence[float]) -> None:
        """Count how long calls waited that joined the queue then, until their batch `began`."""
        for joined in queued:
            self._queue.observe(began - joined)

    def batch_ran(self, row_count: int, compute_s: float, dispatch: Dispatch) -> None:
        """Count a run of the model."""
        self._batches.labels(dispatch).inc()
        self._batch.observe(row_count)
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
    def _of_call(self, method: str, status: Status) -> tuple[counting.Counter, counting.Histogram]:
        return self._calls.labels(method, code_pb2.Code.Name(status.code)), self._seconds.labels(method)

    def _histogram(self, name: str, text: str, bounds: tuple[float, ...], *labels: str) -> HistogramFamily:
        return HistogramFamily(name, text, labels, bounds, self.registry)


def serve_http(registry: CollectorRegistry, host: str, port: int) -> WSGIServer:
    """Serve a registry from a thread; raises OSError."""
    try:
        return start_http_server(port, host, registry)[0]
    except OSError as error:
        raise OSError(f"cannot listen on {host}:{port} for metrics: {error.strerror} (--metrics-port)") from error


def close_http(server: WSGIServer | None) -> None:
    """Stop serving, if it ever began."""
    if server is not None:
        server.shutdown()
        server.server_close()
