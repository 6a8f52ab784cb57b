"""What hangs: a version that does is rejected, a model that never ends keeps neither the server nor its exit."""

import asyncio
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from serving.client import DigitClient
from serving.pixels import Images
from tests.programs import server_process
from tests.serving.conftest import Publisher, Serve
from tests.serving.looping import MODEL
from tests.serving.test_metrics import scrape

LIMIT_S = 60.0
"""Ends a hang of the test; nothing is measured by it."""


async def test_a_graph_that_loops_is_rejected_and_the_next_version_is_served(
    serve: Serve, publisher: Publisher, images: Images
) -> None:
    """The run itself is ended, so that no thread and no core is lost."""
    publisher.publish(1)
    async with serve(metrics_port=0, load_timeout_s=2.0) as running:
        publisher.publish_copy(5, of=2, model=MODEL)
        while not (described := await running.client.model()).refusal:
            await asyncio.sleep(0.02)
        samples = await scrape(running)
        answer = await running.client.classify(images[:5])
        publisher.publish(2)
        while (await running.client.model()).version != 2:
            await asyncio.sleep(0.02)
    assert described.refusal == "it did not load within 2 s"
    assert answer.model_version == 1
    assert samples["serving_versions_failing", "rejected"] == 1
    assert samples["serving_versions_failing", "retrying"] == 0


@pytest.mark.parametrize("options", [(), ("--workers", "2"), ("--transport", "envoy")], ids=["one", "two", "envoy"])
def test_a_server_ends_while_a_version_loads(publisher: Publisher, tmp_path: Path, options: tuple[str, ...]) -> None:
    """SIGTERM drains and exits, whatever a thread waits for."""
    publisher.publish(1)
    log = tmp_path / "log"
    settings = ("--load-timeout-s", "3600", "--poll-ms", "20", "--drain-s", "1", "--drain-linger-s", "0.1")
    with server_process(publisher.root, log, *settings, *options) as server:
        publisher.publish_copy(5, of=2, model=MODEL)
        threads = Path(f"/proc/{server.process.pid}/task")
        until = time.monotonic() + 1 if options else None  # a worker's threads are not ours to count: give it a second
        while not (any_load(threads) if until is None else time.monotonic() > until):
            time.sleep(0.02)
        with DigitClient(server.address) as client:
            assert client.model().version == 1
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(LIMIT_S) == 0
    assert "Traceback" not in log.read_text()


def any_load(threads: Path) -> bool:
    """Whether more than a poll runs: a thread that has used a tenth of a second of its core beside the main one."""
    used = []
    for task in threads.iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            used.append(sum(map(int, (task / "stat").read_text().rpartition(")")[2].split()[11:13])))
    return sum(ticks >= 10 for ticks in used) >= 2
