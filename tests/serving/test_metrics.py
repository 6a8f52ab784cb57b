"""What Prometheus is told, by scraping a real server."""

import asyncio
import urllib.request
from typing import get_args

import numpy as np
import pytest
from google.protobuf.message import Message
from prometheus_client.parser import text_string_to_metric_families

from protos.digits.v1 import digits_pb2
from serving.batching.queue import Dispatch
from serving.call import AwaitedCall, Call, Dispatcher, rpcs
from serving.errors import STATUSES, InvalidRequestError, NoModelError
from serving.pixels import Images
from serving.provider import CPU
from serving.telemetry.metrics import Metrics
from tests.programs import ROOT
from tests.serving.conftest import Publisher, RunningServer, Serve

CLASSIFY = "/digits.v1.DigitService/Classify"
ROUNDING_US = 5


async def scrape(running: RunningServer) -> dict[tuple[str, ...], float]:
    """Every sample, by its name and the values of its labels, in the order of their names."""
    url = f"http://127.0.0.1:{running.server.metrics_port}/metrics"
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=60).read().decode())
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value for sample in samples}


def labelled(samples: dict[tuple[str, ...], float]) -> list[tuple[tuple[str, ...], float]]:
    """The samples that have a label."""
    return [(key, value) for key, value in samples.items() if len(key) > 1]


async def test_calls_are_counted_by_method_and_code(serve: Serve, publisher: Publisher, images: Images) -> None:
    """Good ones and bad ones."""
    publisher.publish(1)
    async with serve(metrics_port=0) as running:
        for _ in range(3):
            await running.client.classify(images[:2])
        with pytest.raises(InvalidRequestError):
            await running.client.classify(np.zeros((1, 5, 5), np.uint8))
        samples = await scrape(running)
    assert samples["serving_calls_total", "OK", CLASSIFY] == 3
    assert samples["serving_calls_total", "INVALID_ARGUMENT", CLASSIFY] == 1
    assert samples["serving_call_seconds_count", CLASSIFY] == 4


async def test_refusals_are_counted_by_reason(serve: Serve, publisher: Publisher, images: Images) -> None:
    """The reason is the one that the caller gets; those that did not happen stand at 0."""
    async with serve(metrics_port=0) as running:
        with pytest.raises(NoModelError):
            await running.client.classify(images[:1])
        publisher.publish(1)
        await running.client.wait_until_serving(5)
        for _ in range(2):
            with pytest.raises(InvalidRequestError):
                await running.client.classify(np.zeros((1, 5, 5), np.uint8))
        await running.client.classify(images[:1])
        samples = await scrape(running)
    refusals = {reason: count for (name, reason, *_), count in labelled(samples) if name == "serving_refusals_total"}
    assert set(refusals) == {status.reason for status in STATUSES.values()}
    assert refusals.pop("INVALID_REQUEST") == 2
    assert refusals.pop("NO_MODEL") >= 1  # and what wait_until_serving was told
    assert not any(refusals.values())


@pytest.mark.parametrize(("remaining_s", "refused"), [(-1, 1), (60, 0), (None, 0)], ids=["passed", "far", "none"])
async def test_a_call_cut_off_by_its_deadline_counts_as_refused(remaining_s: float | None, refused: int) -> None:
    """The transport cancels it, as it does when a caller hangs up; the clock tells the two apart."""
    metrics = Metrics()
    call = AwaitedCall(remaining_s)
    task = asyncio.create_task(Dispatcher(metrics.call_answered).answer(rpcs(SlowService())[0], b"", call))
    await asyncio.sleep(0)  # it begins
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert metrics.registry.get_sample_value("serving_refusals_total", {"reason": "DEADLINE_EXCEEDED"}) == refused
    code = "DEADLINE_EXCEEDED" if refused else "CANCELLED"
    assert metrics.registry.get_sample_value("serving_calls_total", {"method": CLASSIFY, "code": code}) == 1


class SlowService:
    """A service that never answers."""

    descriptor = digits_pb2.DESCRIPTOR.services_by_name["DigitService"]

    def __init__(self) -> None:
        self.methods = {"Classify": self.wait, "GetModel": self.wait, "GetFeatureMaps": self.wait}

    async def wait(self, _request: Message, _call: Call) -> Message:
        """Wait for what does not come."""
        await asyncio.Event().wait()
        raise AssertionError("nobody sets that event")


async def test_batches_are_measured(serve: Serve, publisher: Publisher, images: Images) -> None:
    """Images, run and wait: for a call that runs where it arrives, and for one that is split over four runs."""
    publisher.publish(1)
    async with serve(metrics_port=0) as running:
        await running.client.classify(images[:2])
        await running.client.classify(images[:500])
        samples = await scrape(running)
    assert samples["serving_batch_images_sum",] == 502
    assert samples["serving_batch_images_count",] == samples["serving_compute_seconds_count",] == 5
    assert samples["serving_queue_seconds_count",] == 2
    assert samples["serving_queued_images",] == 0


async def test_versions_are_counted(serve: Serve, publisher: Publisher) -> None:
    """Those that answer, and those that are refused."""
    publisher.publish(1)
    async with serve(metrics_port=0) as running:
        publisher.publish(2)
        while (await running.client.model()).version != 2:
            await asyncio.sleep(0.02)
        (publisher.model.directory / "CURRENT").chmod(0o644)
        (publisher.model.directory / "CURRENT").write_text("garbage")
        while not (await running.client.model()).refusal:
            await asyncio.sleep(0.02)
        samples = await scrape(running)
    assert samples["serving_swaps_total",] == 2
    assert samples["serving_versions_refused_total",] == 1
    assert samples["serving_model_version",] == 2
    assert samples["serving_provider_info", CPU] == 1
    assert samples["process_resident_memory_bytes",] > 0


async def test_every_metric_of_ours_is_documented(serve: Serve, publisher: Publisher, images: Images) -> None:
    """docs/metrics.md has a row for each."""
    publisher.publish(1)
    async with serve(metrics_port=0) as running:
        await running.client.classify(images[:2])
        samples = await scrape(running)
    page = (ROOT / "docs" / "metrics.md").read_text()
    endings = ("_bucket", "_count", "_sum", "_created")
    for name in {name for name, *_ in samples if name.startswith("serving_") and not name.endswith("_created")}:
        base = next((name.removesuffix(ending) for ending in endings if name.endswith(ending)), name)
        assert f"| `{base}` |" in page


async def test_they_are_not_served_unless_asked_for(serve: Serve) -> None:
    """No port that nobody knows of."""
    async with serve() as running:
        assert running.server.metrics_port is None


async def test_an_answer_says_where_its_time_went(serve: Serve, publisher: Publisher, images: Images) -> None:
    """In its trailing metadata; the parts never exceed the server's own time for the call, and are most of it."""
    publisher.publish(1)
    shares = []
    async with serve(metrics_port=0) as running:
        for _ in range(21):
            before = (await scrape(running)).get(("serving_call_seconds_sum", CLASSIFY), 0)
            call = running.client._classify(
                digits_pb2.ClassifyRequest(image_count=100, pixels=images[:100].tobytes())
            )  # the result leaves out the trailers
            await call
            timing = parts(dict(await call.trailing_metadata())["serving-timing"])
            whole_us = 1e6 * ((await scrape(running))["serving_call_seconds_sum", CLASSIFY] - before)
            told_us = sum(int(timing[part]) for part in ("queue_us", "batch_us", "compute_us"))
            assert told_us <= whole_us + ROUNDING_US
            shares.append(told_us / whole_us)
            assert timing["batch_images"] == "100"
            assert timing["dispatch"] in get_args(Dispatch)
            assert int(timing["compute_us"]) > 0
    assert max(shares) > 0.8


def parts(trailer: str) -> dict[str, str]:
    """What stands in the trailer."""
    return dict(part.split("=") for part in trailer.split())
