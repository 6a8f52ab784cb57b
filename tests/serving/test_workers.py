"""`--workers 2`: several server processes behind one port, which look like one server from outside."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.client import AsyncDigitClient, Model
from serving.errors import UnavailableError
from serving.pixels import Images
from serving.session import Session
from tests.programs import ROOT, ServerProcess, run_program, server_process
from tests.serving.conftest import TRANSPORTS, Publisher, has_cuda, is_right
from tests.serving.test_drain import CALLERS, call_until_refused

SWAP_S = 0.6  # a busy machine needs many times the few milliseconds of a free one; one worker is held up for longer
"""Between the first worker's swap and the last one's; a few ms on a machine with nothing else to do."""

END_S = 5.0

Program = Callable[..., ServerProcess]
Sessions = Mapping[int, Session]


def worker_pids(server: ServerProcess) -> list[int]:
    """The processes that the supervisor started and that still live."""
    pid = server.process.pid
    if not lives(pid):
        return []
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def lives(pid: int) -> bool:
    """Whether a process is there and has not ended; its first thread may be gone while others hold its sockets."""
    process = Path(f"/proc/{pid}")
    try:
        is_zombie = (process / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        return not is_zombie or len(list((process / "task").iterdir())) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for_the_end_of(pids: list[int]) -> None:
    """Wait until none of them lives; fail after a few seconds."""
    give_up = time.monotonic() + END_S
    while left := [pid for pid in pids if lives(pid)]:
        assert time.monotonic() < give_up, f"still there: {left}"
        time.sleep(0.02)


@contextmanager
def two_workers(publisher: Publisher, log: Path, *arguments: str) -> Iterator[ServerProcess]:
    """A server with two workers, none of which outlives it."""
    quick = ("--workers", "2", "--provider", "cpu", "--drain-linger-s", "0.3", "--metrics-port", "0")
    with server_process(publisher.root, log, *quick, *arguments) as server:
        pids = set(worker_pids(server))
        yield server
        pids.update(worker_pids(server))
    try:
        wait_for_the_end_of([*pids])
    finally:
        for pid in filter(lives, pids):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def workers(publisher: Publisher, tmp_path: Path, transport: str) -> Iterator[ServerProcess]:
    """Two workers that serve version 1, for a test that ends them."""
    publisher.publish(1)
    with two_workers(publisher, tmp_path / "log", "--poll-ms", "20", "--transport", transport) as server:
        yield server


@pytest.fixture(scope="module")
def shared_publisher(tmp_path_factory: pytest.TempPathFactory) -> Publisher:
    """A repository of both versions; some test made either of them current."""
    publisher = Publisher(tmp_path_factory.mktemp("shared") / "repository")
    for version in (2, 1):
        publisher.publish(version)
    return publisher


@pytest.fixture(scope="module", params=TRANSPORTS)
def shared(shared_publisher: Publisher, request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """Two workers that serve them, for all tests that leave them alive; they look at CURRENT twice a second."""
    log = shared_publisher.root.parent / f"log-{request.param}"
    with two_workers(shared_publisher, log, "--poll-ms", "500", "--transport", request.param) as server:
        yield server


@asynccontextmanager
async def clients(address: str, count: int = 16) -> AsyncIterator[list[AsyncDigitClient]]:
    """So many that each worker has some: one connection each, which the kernel gives to either."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(AsyncDigitClient(address)) for _ in range(count)]


async def scrape(server: ServerProcess, name: str) -> dict[str, float]:
    """The samples of a metric, summed by worker."""
    url = f"http://127.0.0.1:{server.metrics_port}/metrics"
    text = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=5).read().decode())
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name:
                worker = sample.labels.get("worker", "")
                sums[worker] = sums.get(worker, 0.0) + sample.value
    return sums


async def test_both_workers_answer_rightly_through_one_port(
    shared: ServerProcess, images: Images, sessions: Sessions
) -> None:
    """The metrics of both stand side by side, and their calls add up."""
    before = await scrape(shared, "serving_batch_images_sum")
    async with clients(shared.address) as callers:
        parts = [images[index : index + 3] for index in range(len(callers))]
        for _ in range(4):
            answers = await asyncio.gather(*map(AsyncDigitClient.classify, callers, parts))
            assert all(is_right(answer, part, sessions) for answer, part in zip(answers, parts, strict=True))
    after = await scrape(shared, "serving_batch_images_sum")
    served = [after[worker] - before[worker] for worker in ("0", "1")]
    assert min(served) > 0
    assert sum(served) == 4 * 16 * 3


async def test_metrics_tell_of_the_workers_and_of_each_of_them(shared: ServerProcess) -> None:
    """How many live, how many were replaced, and whose each sample is."""
    assert await scrape(shared, "serving_workers") == {"": 2}
    assert await scrape(shared, "serving_worker_restarts_total") == {"": 0}
    assert set(await scrape(shared, "process_resident_memory_bytes")) == {"0", "1"}


async def test_a_worker_that_does_not_answer_is_left_out_of_a_scrape(shared: ServerProcess) -> None:
    """The other one is told of in two seconds at most; nothing is lost afterwards."""
    stopped, _ = worker_pids(shared)
    os.kill(stopped, signal.SIGSTOP)
    began = time.monotonic()
    try:
        assert len(await scrape(shared, "serving_model_version")) == 1
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert time.monotonic() - began < 2
    assert len(await scrape(shared, "serving_model_version")) == 2


@dataclass
class Calls:
    """When calls began and ended that were answered by a version, seconds."""

    began_s: dict[int, list[float]] = field(default_factory=lambda: {1: [], 2: []})
    ended_s: dict[int, list[float]] = field(default_factory=lambda: {1: [], 2: []})

    async def make(self, client: AsyncDigitClient, images: Images, sessions: Sessions, stop: asyncio.Event) -> None:
        """Call until told to stop; every answer must be right."""
        while not stop.is_set():
            began = time.monotonic()
            answer = await client.classify(images)
            assert is_right(answer, images, sessions)
            self.began_s[answer.model_version].append(began)
            self.ended_s[answer.model_version].append(time.monotonic())


async def test_workers_swap_together_under_load(
    shared: ServerProcess, shared_publisher: Publisher, images: Images, sessions: Sessions
) -> None:
    """No call fails, and none that begins after somebody saw the new version gets the old one, but for a few ms.

    One worker is held up each time, for longer than the other one needs to be ready, which waits for it.
    """
    spreads_s = []
    held, _ = worker_pids(shared)
    async with clients(shared.address) as callers:
        old = await settle(callers)
        for new in (3 - old, old):
            calls, stop = Calls(), asyncio.Event()
            making = [
                asyncio.create_task(calls.make(caller, images[index : index + 2], sessions, stop))
                for index, caller in enumerate(callers)
            ]
            os.kill(held, signal.SIGSTOP)
            shared_publisher.publish(new)
            await asyncio.sleep(1)
            seen_early = len(calls.ended_s[new])
            os.kill(held, signal.SIGCONT)
            async with asyncio.timeout(END_S):
                while len(calls.ended_s[new]) < 200:
                    await asyncio.sleep(0.02)
            stop.set()
            await asyncio.gather(*making)
            assert seen_early == 0
            spreads_s.append(max(calls.began_s[3 - new]) - min(calls.ended_s[new]))
            assert {(await caller.model()).version for caller in callers} == {new}
    assert max(spreads_s) < SWAP_S


async def test_a_version_that_is_no_good_leaves_both_workers_as_they_are(
    shared: ServerProcess, shared_publisher: Publisher
) -> None:
    """Each says so, none is replaced, and the next version is taken."""
    pids = worker_pids(shared)
    async with clients(shared.address) as callers:
        old = await settle(callers)
        manifest = shared_publisher.model.path(3 - old) / "manifest.json"
        content = manifest.read_bytes()
        shared_publisher.point_at(3 - old)
        manifest.chmod(0o644)
        manifest.write_bytes(content + b" ")
        await told(callers, lambda model: bool(model.refusal))
        assert {(await caller.model()).version for caller in callers} == {old}
        manifest.write_bytes(content)
        shared_publisher.point_at(3 - old)
        await told(callers, lambda model: model.version == 3 - old and not model.refusal)
    assert worker_pids(shared) == pids


async def told(callers: list[AsyncDigitClient], condition: Callable[[Model], bool]) -> None:
    """Wait until every connection is told such a thing of the model."""
    async with asyncio.timeout(END_S):
        for caller in callers:
            while not condition(await caller.model()):
                await asyncio.sleep(0.02)


async def settle(callers: list[AsyncDigitClient]) -> int:
    """Wait until nothing is left to follow of an earlier test; return the version that answers."""
    await asyncio.sleep(0.6)
    await told(callers, lambda model: not model.refusal)
    return (await callers[0].model()).version


async def test_a_worker_that_is_killed_is_replaced(workers: ServerProcess, images: Images) -> None:
    """Only calls in flight on it fail, one a connection; new connections find the other one, or the new one."""
    failed: list[int] = []
    stop = asyncio.Event()

    async def call_on(number: int, client: AsyncDigitClient) -> None:
        while not stop.is_set():
            try:
                await client.classify(images[:2])
            except UnavailableError:
                failed.append(number)

    async def connect_anew() -> None:
        while not stop.is_set():
            async with AsyncDigitClient(workers.address) as client:
                await client.classify(images[:2])

    first = worker_pids(workers)
    async with clients(workers.address) as callers:
        calling = [asyncio.create_task(call_on(number, caller)) for number, caller in enumerate(callers)]
        await asyncio.sleep(0.2)
        os.kill(first[0], signal.SIGKILL)
        wait_for_the_end_of(first[:1])
        calling.append(asyncio.create_task(connect_anew()))
        async with asyncio.timeout(10 * END_S):
            while len(counts := await scrape(workers, "serving_batch_images_count")) < 2 or not all(counts.values()):
                await asyncio.wait(calling, timeout=0.05, return_when=asyncio.FIRST_EXCEPTION)
                assert not (ended := [task for task in calling if task.done()]), [one.exception() for one in ended]
        stop.set()
        await asyncio.gather(*calling)
    assert len(failed) == len(set(failed)) <= len(callers)
    assert await scrape(workers, "serving_worker_restarts_total") == {"": 1}
    (replacement,) = set(worker_pids(workers)) - set(first)
    os.kill(replacement, signal.SIGKILL)
    async with asyncio.timeout(END_S):
        while workers.log.read_text().count("another one starts") < 2:
            await asyncio.sleep(0.02)
    log = workers.log.read_text()
    assert f"process {first[0]} was killed by SIGKILL; another one starts in 1 s" in log
    assert f"process {replacement} was killed by SIGKILL; another one starts in 2 s" in log


async def test_a_replacement_answers_like_the_others_whatever_current_says(
    workers: ServerProcess, publisher: Publisher, images: Images
) -> None:
    """CURRENT is garbage by then: it loads what they answer with, so that nobody finds a worker without a model."""
    current = publisher.model.directory / "CURRENT"
    current.chmod(0o644)
    current.write_text("garbage")
    first = worker_pids(workers)
    os.kill(first[0], signal.SIGKILL)
    wait_for_the_end_of(first[:1])
    async with asyncio.timeout(10 * END_S):
        while len(counts := await scrape(workers, "serving_model_version")) < 2 or not all(counts.values()):
            await asyncio.sleep(0.05)
    for _ in range(20):
        async with AsyncDigitClient(workers.address) as client:
            assert (await client.classify(images[:2])).model_version == 1


def to_all(server: ServerProcess) -> None:
    """As a terminal would, if all processes were in its group."""
    for pid in (*worker_pids(server), server.process.pid):
        os.kill(pid, signal.SIGINT)


STOPS: dict[str, Callable[[ServerProcess], None]] = {
    "SIGTERM": lambda server: server.process.send_signal(signal.SIGTERM),
    "SIGINT to every process": to_all,
}


@pytest.mark.parametrize("stop", STOPS)
async def test_a_drain_under_load_loses_no_call(
    workers: ServerProcess, images: Images, sessions: Sessions, stop: str
) -> None:
    """Every call of 32 callers ends in an answer or in the word that it drains; the exit code is 0."""
    answered = asyncio.Event()
    callers = [
        asyncio.create_task(call_until_refused(workers.address, images[index : index + 3], sessions, answered))
        for index in range(CALLERS)
    ]
    await answered.wait()
    await asyncio.sleep(0.2)
    STOPS[stop](workers)
    assert sum(await asyncio.gather(*callers)) > CALLERS
    assert await asyncio.to_thread(workers.process.wait, 60) == 0
    log = workers.log.read_text()
    assert "another one starts" not in log
    assert all(f"INFO worker {number} serving.server: stopped" in log for number in (0, 1))


def test_a_stop_while_the_workers_start_ends_them_all(publisher: Publisher) -> None:
    """Told as soon as they are there, long before they listen: exit code 0, nothing said, nobody left."""
    publisher.publish(1)
    command = [sys.executable, "-m", "serving", "serve", "--workers", "2", "--provider", "cpu", "--port", "0"]
    with subprocess.Popen(
        [*command, "--repository", str(publisher.root)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as supervisor:
        children = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children")
        give_up = time.monotonic() + 4 * END_S
        while len(pids := [int(child) for child in children.read_text().split()]) < 2:
            assert time.monotonic() < give_up
            time.sleep(0.01)
        supervisor.terminate()
        said, log = supervisor.communicate(timeout=4 * END_S)
    assert (supervisor.returncode, said) == (0, b"")
    assert b"Traceback" not in log
    wait_for_the_end_of(pids)


def test_workers_are_out_of_reach_of_a_terminal(shared: ServerProcess) -> None:
    """Ctrl-C reaches the supervisor alone, which then drains them all."""
    groups = {os.getpgid(pid) for pid in worker_pids(shared)}
    assert os.getpgid(shared.process.pid) not in groups


def test_a_second_signal_ends_what_hangs(workers: ServerProcess) -> None:
    """Its exit status is that signal, and no worker is left."""
    hanging, _ = pids = worker_pids(workers)
    os.kill(hanging, signal.SIGSTOP)
    workers.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert lives(workers.process.pid)
    workers.process.send_signal(signal.SIGTERM)
    assert workers.process.wait(END_S) == -signal.SIGTERM
    assert "got a second signal" in workers.log.read_text()
    wait_for_the_end_of(pids)


def test_workers_end_when_the_supervisor_is_killed(workers: ServerProcess) -> None:
    """They drain, whatever way it went."""
    pids = worker_pids(workers)
    workers.process.kill()
    wait_for_the_end_of(pids)
    assert workers.log.read_text().count("serving.server: stopped") == 2


def test_a_taken_port_is_refused_in_one_line(shared: ServerProcess, publisher: Publisher) -> None:
    """Also by a server that would share it with its own workers."""
    port = shared.address.rsplit(":", 1)[1]
    done = run_program("serving", "serve", "--workers", "2", "--repository", publisher.root, "--port", port)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr


@pytest.mark.skipif(has_cuda(), reason="there is a CUDA device here")
def test_workers_that_cannot_start_end_the_command_in_one_line(publisher: Publisher) -> None:
    """With the words and the exit code of a single server."""
    arguments = ("serving", "serve", "--repository", publisher.root, "--port", "0", "--provider", "cuda")
    alone, several = run_program(*arguments), run_program(*arguments, "--workers", "2")
    assert alone.returncode == several.returncode == 1
    assert alone.stderr.split("CRITICAL")[1] == several.stderr.split("CRITICAL")[1]
    assert alone.stderr.count("\n") == several.stderr.count("\n") == 1
