"""Traces, as a collector gets them: a real OTLP receiver, real spans."""

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from protos.digits.v1.digits_pb2 import ClassifyRequest
from serving.call import Dispatcher
from serving.client import AsyncDigitClient, DigitClient
from serving.engine.transport.connection import Limits
from serving.errors import InternalError, InvalidRequestError, NoModelError
from serving.pixels import Images
from serving.telemetry.tracing import Tracing
from serving.transport.http import HttpTransport
from tests.programs import ROOT, server_process
from tests.serving.conftest import Publisher, Serve
from tests.serving.test_server import FailingService

CLASSIFY = "digits.v1.DigitService/Classify"
TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
RANDOM = np.random.default_rng(0).integers(1, 256, (2, 28, 28), dtype=np.uint8)
"""Two images that nothing else looks like."""


@dataclass
class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what it is sent."""

    endpoint: str = ""
    requests: list[ExportTraceServiceRequest] = field(default_factory=list)

    async def Export(self, request: ExportTraceServiceRequest, _context: object) -> ExportTraceServiceResponse:  # noqa: N802
        """Take some spans."""
        self.requests.append(request)
        return ExportTraceServiceResponse()

    @property
    def spans(self) -> list[Span]:
        """All spans, in the order in which they ended."""
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """A collector on a free port."""
    collector, server = Collector(), grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]
    collector.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield collector
    finally:
        await server.stop(0)


def attributes(span: Span) -> dict[str, Any]:
    """A span's attributes, by name."""
    return {item.key: getattr(item.value, str(item.value.WhichOneof("value"))) for item in span.attributes}


async def classify(address: str, images: Images, *metadata: tuple[str, str]) -> None:
    """One call, with this beside it."""
    request = ClassifyRequest(image_count=len(images), pixels=images.tobytes())
    async with grpc.aio.insecure_channel(address) as channel:
        method: Any = channel.unary_unary(f"/{CLASSIFY}")
        await method(request.SerializeToString(), metadata=metadata, timeout=10)


async def test_every_call_is_a_span(serve: Serve, publisher: Publisher) -> None:
    """Named after its method, with the images, the version and the times; the last ones are sent at the drain."""
    publisher.publish(1)
    async with collecting() as collector:
        async with serve(otlp_endpoint=collector.endpoint) as running:
            await running.client.classify(RANDOM)
            await running.client.model()
        spans = {span.name: span for span in collector.spans}
    assert set(spans) == {CLASSIFY, "digits.v1.DigitService/GetModel"}
    span = spans[CLASSIFY]
    told = attributes(span)
    assert span.kind == Span.SPAN_KIND_SERVER
    assert span.status.code == Status.STATUS_CODE_UNSET
    assert len(span.trace_id) == 16
    assert not span.parent_span_id
    parts_us = [told.pop(part) for part in ("queue_us", "batch_us", "compute_us")]
    whole_us = (span.end_time_unix_nano - span.start_time_unix_nano) / 1000
    assert 0 < sum(parts_us) < whole_us + 50  # microseconds are rounded; the clocks of time and of duration differ
    assert told == {
        "rpc.system": "grpc",
        "rpc.service": "digits.v1.DigitService",
        "rpc.method": "Classify",
        "rpc.grpc.status_code": 0,
        "image_count": 2,
        "batch_images": 2,
        "model_version": 1,
    }


async def test_a_span_says_which_service_it_is_of(serve: Serve, publisher: Publisher) -> None:
    """Its resource has service.name, by which collectors sort."""
    publisher.publish(1)
    async with collecting() as collector:
        async with serve(otlp_endpoint=collector.endpoint) as running:
            await running.client.model()
        resource = collector.requests[0].resource_spans[0].resource
    assert {item.key: item.value.string_value for item in resource.attributes}["service.name"] == "digits"


async def test_a_span_joins_its_callers_trace(serve: Serve, publisher: Publisher) -> None:
    """W3C's traceparent in the call's metadata is its parent."""
    publisher.publish(1)
    async with collecting() as collector:
        async with serve(otlp_endpoint=collector.endpoint) as running:
            await classify(running.address, RANDOM, ("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-01"))
        (span,) = collector.spans
    assert span.trace_id.hex() == TRACE_ID
    assert span.parent_span_id.hex() == PARENT_ID
    assert span.span_id.hex() != PARENT_ID


async def test_what_its_caller_does_not_sample_is_not_sent(serve: Serve, publisher: Publisher) -> None:
    """The caller decides for its whole trace."""
    publisher.publish(1)
    async with collecting() as collector:
        async with serve(otlp_endpoint=collector.endpoint) as running:
            await classify(running.address, RANDOM, ("traceparent", f"00-{TRACE_ID}-{PARENT_ID}-00"))
        assert collector.spans == []


@pytest.mark.parametrize("traceparent", ["", "garbage", f"00-{'0' * 32}-{PARENT_ID}-01"], ids=["empty", "none", "zero"])
async def test_a_traceparent_that_is_none_begins_a_trace(serve: Serve, publisher: Publisher, traceparent: str) -> None:
    """It never fails the call."""
    publisher.publish(1)
    async with collecting() as collector:
        async with serve(otlp_endpoint=collector.endpoint) as running:
            await classify(running.address, RANDOM, ("traceparent", traceparent))
        (span,) = collector.spans
    assert any(span.trace_id)
    assert not span.parent_span_id


async def test_a_refused_call_tells_its_code_and_reason(serve: Serve, publisher: Publisher) -> None:
    """A server's fault is an error of its span, a caller's is not."""
    async with collecting() as collector:
        async with serve(otlp_endpoint=collector.endpoint) as running:
            with pytest.raises(NoModelError):
                await running.client.classify(RANDOM)
            publisher.publish(1)
            await running.client.wait_until_serving(5)
            with pytest.raises(InvalidRequestError):
                await running.client.classify(RANDOM[:, :5])
        refused = {attributes(span).get("error.type"): span for span in collector.spans if span.name == CLASSIFY}
    assert attributes(refused["NO_MODEL"])["rpc.grpc.status_code"] == 14
    assert refused["NO_MODEL"].status.code == Status.STATUS_CODE_ERROR
    assert attributes(refused["INVALID_REQUEST"])["rpc.grpc.status_code"] == 3
    assert refused["INVALID_REQUEST"].status.code == Status.STATUS_CODE_UNSET


async def test_no_pixels_are_in_a_trace(serve: Serve, publisher: Publisher) -> None:
    """Good calls and bad ones: no eight bytes of an image stand in what is sent."""
    publisher.publish(1)
    async with collecting() as collector:
        async with serve(otlp_endpoint=collector.endpoint) as running:
            await running.client.classify(RANDOM)
            with pytest.raises(InvalidRequestError):
                await running.client.classify_png([RANDOM.tobytes()])
        sent = b"".join(request.SerializeToString() for request in collector.requests)
    pixels = RANDOM.tobytes()
    assert len(collector.spans) == 2
    assert not any(pixels[start : start + 8] in sent for start in range(len(pixels) - 7))


async def test_the_log_names_the_trace_of_a_call_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    """From the line to the span and back."""
    async with collecting() as collector:
        tracing = Tracing(collector.endpoint)
        dispatcher = Dispatcher(trace=tracing.trace)
        transport = HttpTransport([FailingService()], dispatcher, limits=Limits())
        port = await transport.start("127.0.0.1", 0)
        async with AsyncDigitClient(f"127.0.0.1:{port}") as client:
            with pytest.raises(InternalError) as error:
                await client.model()
        await transport.stop(0)
        await asyncio.to_thread(tracing.close)
        (span,) = collector.spans
    (record,) = [record for record in caplog.records if record.name == "serving.call"]
    assert vars(record)["trace_id"] == span.trace_id.hex()
    assert vars(record)["request_id"] == error.value.metadata["request_id"]


@pytest.fixture(params=["nobody listens", "nobody answers"])
def dead_endpoint(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where a collector should be: a closed port, or one that takes connections and stays silent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        if request.param == "nobody listens":
            listener.close()
        yield address


def test_a_collector_that_is_away_costs_no_call(publisher: Publisher, dead_endpoint: str, tmp_path: Path) -> None:
    """All are answered and the drain ends in time, with one line in the log, though spans overflow."""
    publisher.publish(1)
    log = tmp_path / "log"
    small_queue = {"OTEL_BSP_MAX_QUEUE_SIZE": "8", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4"}
    with (
        server_process(publisher.root, log, "--otlp-endpoint", dead_endpoint, **small_queue) as server,
        DigitClient(server.address, timeout_s=5) as client,
    ):
        for _ in range(100):
            client.classify(RANDOM)
        began = time.monotonic()
        assert server.terminate() == 0
        assert time.monotonic() - began < 28  # OpenTelemetry alone would go on for 30 s
    assert len([line for line in log.read_text().splitlines() if "trace" in line or "opentelemetry" in line]) == 1


def test_without_an_endpoint_nothing_of_opentelemetry_is_loaded() -> None:
    """Who does not trace pays neither memory nor time for it."""
    code = (
        "import sys; from serving.config import Settings; from serving.server import Server; "
        "Server(Settings(provider='cpu')); sys.exit(any('opentelemetry' in name for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
