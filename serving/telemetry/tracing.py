"""Traces for OpenTelemetry: a span a call, joined to the caller's trace and sent to a collector by OTLP.

A thread of OpenTelemetry's own sends them. When the collector is slow or away, spans are lost and calls go on as ever.
OpenTelemetry's own variables hold too: OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, OTEL_BSP_MAX_QUEUE_SIZE, ...
"""

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from google.rpc import code_pb2
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from serving.call import TIMING, Call, Rpc
from serving.errors import Status
from serving.own_address import without_proxy

FLUSH_S = 2.0
"""How long the last spans may take at the end."""

SILENCE_S = 60.0
"""After a line about the collector there is none for so long."""

SERVER_FAULTS = {
    code_pb2.UNKNOWN,
    code_pb2.DEADLINE_EXCEEDED,
    code_pb2.UNIMPLEMENTED,
    code_pb2.INTERNAL,
    code_pb2.UNAVAILABLE,
    code_pb2.DATA_LOSS,
}
"""The codes that make a server's span an error, by OpenTelemetry's conventions for gRPC."""

log = logging.getLogger(__name__)

opentelemetry_log = logging.getLogger("opentelemetry")
opentelemetry_log.propagate = False  # what it has to say comes through `_Seldom`


class Tracing:
    """Makes a span of every call; sends them to `endpoint`, such as "http://localhost:4317", until it is closed."""

    def __init__(self, endpoint: str) -> None:
        self._seldom = _Seldom()
        opentelemetry_log.addHandler(self._seldom)
        direct: Any = tuple(without_proxy(urlsplit(endpoint).netloc))
        self._exporter = OTLPSpanExporter(endpoint, channel_options=direct or None)
        resource = Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "digits")})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer = self._provider.get_tracer(__name__)
        self._traceparent = TraceContextTextMapPropagator()

    def trace(self, rpc: Rpc, call: Call) -> Callable[[Status], None]:
        """Begin the span of a call, in its caller's trace if it came with one; ended by what this returns."""
        came_ns = time.time_ns() - round((time.monotonic() - call.arrived) * 1e9)
        span = self._tracer.start_span(
            f"{rpc.service}/{rpc.name}",
            context=self._traceparent.extract(call.metadata, Context()),
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.service": rpc.service, "rpc.method": rpc.name},
            start_time=came_ns,
        )
        call.trace_id = format_trace_id(span.get_span_context().trace_id)

        def end(status: Status) -> None:
            if span.is_recording():
                span.set_attributes({"rpc.grpc.status_code": status.code, **call.facts, **_timing(call)})
            if status.reason:
                span.set_attribute("error.type", status.reason)
            if status.code in SERVER_FAULTS:
                span.set_status(StatusCode.ERROR, status.reason)
            span.end()

        return end

    def close(self) -> None:
        """Send what is left, for FLUSH_S seconds at most; blocks."""
        give_up = threading.Timer(FLUSH_S, self._exporter.shutdown)  # the exporter alone would try for 30 s
        give_up.start()
        self._provider.shutdown()
        give_up.cancel()
        opentelemetry_log.removeHandler(self._seldom)


def _timing(call: Call) -> dict[str, int]:
    """Where the call's time went, as its trailer says: queue_us, batch_us, compute_us, batch_images."""
    parts = (part.partition("=") for name, text in call.trailers if name == TIMING for part in text.split())
    return {name: int(number) for name, _, number in parts if number.isdigit()}


class _Seldom(logging.Handler):
    """Passes on one line in SILENCE_S of what OpenTelemetry says: it says it for every try."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._silent_until = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record as one of ours, or drop it."""
        now = time.monotonic()
        if now >= self._silent_until:
            self._silent_until = now + SILENCE_S
            log.warning("traces: %s (silent for %g s now)", record.getMessage(), SILENCE_S)
