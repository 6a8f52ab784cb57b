"""Serving on a card: really there, right, never elsewhere in silence, and steady through swaps and want of memory."""

import asyncio
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from serving.buckets import PageLocked
from serving.client import AsyncDigitClient
from serving.errors import DeviceMemoryError, VersionRefusedError
from serving.pixels import Images
from serving.provider import CPU, CUDA, PROVIDER_OPTIONS, create_session, execution_provider
from serving.session import Session
from serving.versions.manifest import Version
from tests.programs import ServerProcess, run_program, server_process
from tests.serving.conftest import Publisher
from tests.serving.grafts import rename
from tests.serving.test_soak import swap_to

SIZES = (1, 2, 7, 32, 100, 256, 1000)
CLOSE = 1e-4  # of a probability: the CPU's rounding and the card's
STEADY_BYTES = 64 << 20  # that the card's memory may grow by over twelve swaps


@pytest.fixture
def session(versions: Mapping[int, Version]) -> Session:
    """Version 1 on the card, for two runs at a time."""
    return Session(versions[1], provider=CUDA, threads=1, lanes=2)


@contextmanager
def on_cuda(publisher: Publisher, log: Path, *options: str) -> Iterator[ServerProcess]:
    """The server program on the card."""
    with server_process(publisher.root, log, "--provider", "cuda", "--poll-ms", "20", *options) as server:
        yield server


def test_the_known_answers_come_out(session: Session, versions: Mapping[int, Version]) -> None:
    """Every node on CUDA, within the same bound as on the CPU."""
    assert session.provider == CUDA
    session.check_known_answers(versions[1].known_answers)


@pytest.mark.parametrize("count", SIZES)
def test_a_bucket_answers_as_a_plain_run(
    session: Session, sessions: Mapping[int, Session], images: Images, count: int
) -> None:
    """Bound memory, whatever fills the bucket up, and page-locked pages change nothing."""
    session.run(images)
    came, expected = session.run(images[:count]), sessions[1].run(images[:count])
    np.testing.assert_allclose(came.probabilities, expected.probabilities, atol=CLOSE)
    assert np.array_equal(came.probabilities.argmax(axis=1), expected.probabilities.argmax(axis=1))


def test_every_node_runs_on_the_card(versions: Mapping[int, Version], images: Images, tmp_path: Path) -> None:
    """onnxruntime's own profile names the provider of each node that ran."""
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    providers = [(CUDA, PROVIDER_OPTIONS[CUDA])]
    runtime = onnxruntime.InferenceSession(versions[1].model, options, providers=providers, enable_fallback=0)
    runtime.run(["probabilities"], {"images": images[:64]})
    events = json.loads(Path(runtime.end_profiling()).read_text())
    ran = {event["args"]["provider"] for event in events if event.get("cat") == "Node" and "provider" in event["args"]}
    assert ran == {CUDA}


def test_kernels_are_seen_on_the_card(session: Session, images: Images) -> None:
    """CUDA's own tracing sees kernels while the session runs."""
    session.run(images)
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        session.run(images)
        torch.cuda.synchronize()
    names = {event.name for event in seen.events() if str(event.device_type).endswith("CUDA")}
    assert any(not name.startswith("Mem") for name in names), names


def test_a_broken_cuda_library_is_an_error_and_not_the_cpu(publisher: Publisher, tmp_path: Path) -> None:
    """Where the provider's library is no library, the program ends with one line; only "auto" takes the CPU."""
    publisher.publish(1)
    site = tmp_path / "site"
    shutil.copytree(Path(onnxruntime.__file__).parent, site / "onnxruntime")
    if (libraries := Path(onnxruntime.__file__).parents[1] / "nvidia").exists():  # where onnxruntime looks for CUDA's
        (site / "nvidia").symlink_to(libraries)
    paths = ":".join([str(site), *filter(None, sys.path)])
    with server_process(publisher.root, tmp_path / "log", "--provider", "cuda", PYTHONPATH=paths) as intact:
        assert intact.terminate() == 0
    (site / "onnxruntime" / "capi" / "libonnxruntime_providers_cuda.so").write_bytes(b"no library")
    command = ("serving", "serve", "--port", "0", "--repository", publisher.root)
    ended = run_program(*command, "--provider", "cuda", PYTHONPATH=paths)
    assert ended.returncode == 1
    assert "--provider cuda: " in ended.stderr
    assert "use --provider cpu" in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_the_server_answers_and_swaps(
    publisher: Publisher, tmp_path: Path, transport: str, images: Images, sessions: Mapping[int, Session]
) -> None:
    """Also inside Envoy: calls of many sizes at once, before, during and after a swap; then it drains."""
    publisher.publish(1)
    with on_cuda(publisher, tmp_path / "log", "--transport", transport, "--max-queue-ms", "5000") as server:
        async with AsyncDigitClient(server.address) as client:

            async def call(count: int) -> None:
                answer = await client.classify(images[:count])
                assert answer.provider == CUDA
                expected = sessions[answer.model_version].run(images[:count]).probabilities
                np.testing.assert_allclose(answer.probabilities, expected, atol=CLOSE)

            for version in (2, 1, 2):
                calls = [asyncio.create_task(call(count)) for count in SIZES * 5]
                await swap_to(publisher, client, version)
                await asyncio.gather(*calls)
        assert server.terminate() == 0


@pytest.mark.timeout(300)
async def test_twenty_swaps_under_load_lose_nothing_and_leave_no_memory_behind(
    publisher: Publisher, tmp_path: Path, images: Images, sessions: Mapping[int, Session]
) -> None:
    """Eight callers in a closed loop; the card has as much free after the last swaps as after the first."""
    publisher.publish(1)
    stop = asyncio.Event()
    expected = {number: sessions[number].run(images).probabilities for number in (1, 2)}
    free: list[int] = []

    async def call_on(client: AsyncDigitClient, count: int) -> int:
        done = 0
        while not stop.is_set():
            answer = await client.classify(images[:count])
            np.testing.assert_allclose(answer.probabilities, expected[answer.model_version][:count], atol=CLOSE)
            done += 1
        return done

    with on_cuda(publisher, tmp_path / "log", "--max-queue-ms", "10000") as server:
        async with AsyncDigitClient(server.address) as client:
            callers = [asyncio.create_task(call_on(client, count)) for count in (1, 1, 3, 16, 64, 100, 256, 1000)]
            for index in range(20):
                await swap_to(publisher, client, 2 - index % 2)
                free.append(torch.cuda.mem_get_info()[0])
            stop.set()
            counts = await asyncio.gather(*callers)
        assert server.terminate() == 0
    assert min(counts) > 0
    # The session before is freed a moment later, so the most that was free is compared, of first and last swaps.
    assert max(free[:8]) - max(free[-8:]) < STEADY_BYTES, free


async def test_a_version_that_finds_the_card_full_is_refused(
    publisher: Publisher, tmp_path: Path, images: Images
) -> None:
    """A neighbour takes the memory: the old version goes on and says why; when there is room again, a new one loads."""
    publisher.publish(1)
    with on_cuda(publisher, tmp_path / "log") as server, taken_by_a_neighbour() as neighbour:
        async with AsyncDigitClient(server.address) as client, asyncio.timeout(60):
            assert (await client.classify(images)).model_version == 1
            neighbour.take_all()
            publisher.publish_copy(7, of=2)
            while not (model := await client.model()).refusal:
                await asyncio.sleep(0.05)
            assert model.version == 1
            assert (await client.classify(images)).model_version == 1
            neighbour.give_back()
            publisher.publish_copy(8, of=2)
            while (model := await client.model()).version != 8:
                await asyncio.sleep(0.05)
            assert not model.refusal


def test_a_run_that_finds_no_memory_says_so(versions: Mapping[int, Version], images: Images) -> None:
    """Under a limit that fits eight images but not sixteen thousand: it tells what to do, and the next run works."""
    session = Session(versions[1], provider=CUDA, threads=1, gpu_memory_mib=64)
    expected = session.run(images[:8]).probabilities
    for _ in range(3):
        with pytest.raises(DeviceMemoryError, match="send fewer in a call"):
            session.run(np.concatenate([images] * 16))
    np.testing.assert_allclose(session.run(images[:8]).probabilities, expected, atol=CLOSE)


def test_a_model_that_does_not_fit_is_refused_when_it_is_loaded(publisher: Publisher, tmp_path: Path) -> None:
    """The limit is too small for the largest batch: no version answers, and the log says why."""
    publisher.publish(1)
    log = tmp_path / "log"
    with on_cuda(
        publisher, log, "--gpu-memory-mib", "64", "--max-batch-images", "16384", "--max-queue-images", "65536"
    ):
        wait_for(lambda: "no memory left" in log.read_text())


def test_a_model_with_a_node_that_cuda_lacks_is_refused(versions: Mapping[int, Version]) -> None:
    """No node may go to the CPU behind our back."""
    onnx = pytest.importorskip("onnx")
    graph = onnx.load_model_from_string(versions[1].model)
    rename(graph.graph, "logits", "plain_logits")
    # Det has a kernel on the CPU alone (OperatorKernels.md of onnxruntime 1.31).
    one = onnx.numpy_helper.from_array(np.eye(2, dtype=np.float32), "square")
    graph.graph.initializer.append(one)
    make = onnx.helper.make_node
    graph.graph.node.extend(
        [
            make("ReduceMax", ["plain_logits"], ["largest"], keepdims=1),
            make("Mul", ["square", "largest"], ["squares"]),
            make("Det", ["squares"], ["determinant"]),
            make("Mul", ["determinant", "determinant"], ["determinant_squared"]),
            make("Add", ["plain_logits", "determinant_squared"], ["logits"]),
        ]
    )
    with pytest.raises(VersionRefusedError, match="onnxruntime cannot load it"):
        create_session("model.onnx", graph.SerializeToString(), CUDA, threads=1)
    create_session("model.onnx", graph.SerializeToString(), CPU, threads=1)


def test_page_locked_memory_is_locked_and_given_back() -> None:
    """CUDA knows the pages while they are used, and may lock them again behind it."""
    execution_provider("cuda")  # which loads CUDA's library
    for _ in range(3):
        memory = PageLocked((1024, 28, 28))
        assert torch.from_numpy(memory.array).is_pinned()
        del memory


class Neighbour:
    """Another program on the card."""

    def __init__(self) -> None:
        self._taken: list[torch.Tensor] = []

    def take_all(self) -> None:
        """Take all memory that is free, but for less than anybody can use."""
        for block in (1 << 30, 1 << 26, 1 << 20):  # torch takes 2 MiB for a block of one
            while torch.cuda.mem_get_info()[0] > 2 * block:
                try:
                    self._taken.append(torch.empty(block, dtype=torch.uint8, device="cuda"))
                except torch.OutOfMemoryError:
                    break

    def give_back(self) -> None:
        """Free it."""
        self._taken.clear()
        torch.cuda.empty_cache()


@contextmanager
def taken_by_a_neighbour() -> Iterator[Neighbour]:
    """A neighbour that leaves with the block."""
    neighbour = Neighbour()
    try:
        yield neighbour
    finally:
        neighbour.give_back()


def wait_for(holds: Callable[[], bool], within_s: float = 30) -> None:
    """Look until it holds."""
    give_up = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.05)
