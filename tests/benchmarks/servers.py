"""What is measured, and how each starts: ours, plain grpcio servers, and peers in environments of their own."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import cache, partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import numpy as np

from protos.digits.v1.digits_pb2 import ClassifyResponse
from serving.idx import read_images
from serving.pixels import Images
from serving.probe import main as probe
from tests.benchmarks import model
from tests.benchmarks.protocols import DIGITS, V2_GRPC, V2_REST, Protocol, pixels
from tests.programs import ROOT, server_process
from tests.serving.conftest import MNIST, VERSIONS, Publisher
from tests.serving.doors import door_process

MODEL = VERSIONS / "1" / "model.onnx"
PEERS = Path(__file__).parent / "peers"
START_S = 60.0
STOP_S = 10.0


class PeerError(Exception):
    """A peer cannot be installed or started here; says why in one line."""


@dataclass(frozen=True)
class Running:
    """A server that listens; peers are stopped while another is measured, since some of them poll when idle."""

    port: int
    pid: int
    process_group: int | None = None

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Let it run."""
        self.signal(signal.SIGCONT)
        try:
            yield
        finally:
            self.signal(signal.SIGSTOP)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all of its processes, if it is a peer that has any left."""
        if self.process_group is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process_group, number)


Start = Callable[[], AbstractContextManager[Running]]


@dataclass(frozen=True)
class Server:
    """One row of the table."""

    name: str
    about: str
    protocol: Protocol
    start: Start
    peer: str | None = None


@contextmanager
def _ours(*arguments: str, program: str = "serving") -> Iterator[Running]:
    with TemporaryDirectory() as folder:
        publisher = Publisher(Path(folder) / "repository")
        publisher.publish(1)
        log = Path(folder) / "log"
        with server_process(publisher.root, log, "--provider", "cpu", *arguments, program=program) as server:
            yield Running(int(server.address.rsplit(":", 1)[1]), server.process.pid)


@contextmanager
def _door() -> Iterator[Running]:
    """A server of ours behind a door, which has taken it for healthy."""
    with TemporaryDirectory() as folder, _ours() as server:
        options = ("--static-files", folder, "--threads", "1")
        with door_process([f"127.0.0.1:{server.port}"], Path(folder) / "log", *options) as door:
            with redirect_stdout(StringIO()):
                while probe([door.address]):
                    time.sleep(0.1)
            yield Running(int(door.address.rsplit(":", 1)[1]), door.process.pid)


@contextmanager
def _printing_its_port(*command: str) -> Iterator[Running]:
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Running(int(process.stdout.readline() if process.stdout else ""), process.pid)
        finally:
            process.kill()


def _plain(kind: str) -> AbstractContextManager[Running]:
    return _printing_its_port(sys.executable, "-m", "tests.benchmarks.plain_server", kind, str(MODEL))


@contextmanager
def _bare() -> Iterator[Running]:
    """A C++ server that has an answer ready for 1, 2, 4, ... 1,024 images; raises PeerError when it cannot be built."""
    program = ROOT / ".bench" / "bare_server"
    _build(PEERS / "bare_server.cc", program)
    images = read_images(MNIST / "t10k-images-idx3-ubyte.gz")[:1024]
    probabilities = model.load(MODEL)(images)
    with TemporaryDirectory() as folder:
        for count in (2**power for power in range(11)):
            some = probabilities[:count]
            answer = ClassifyResponse(digits=some.argmax(axis=1).tolist(), probabilities=some.ravel().tolist())
            (Path(folder) / str(len(DIGITS.body(images[:count])))).write_bytes(answer.SerializeToString())
        with _printing_its_port(str(program), folder) as running:
            yield running


def _build(source: Path, program: Path) -> None:
    """Compile a C++ server that uses grpc++, unless that was done; raises PeerError."""
    if program.exists() and program.stat().st_mtime > source.stat().st_mtime:
        return
    program.parent.mkdir(exist_ok=True)
    command = shlex.join(["c++", "-O2", "-std=c++17", str(source), "-o", str(program)])
    command += " $(pkg-config --cflags --libs grpc++)"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)  # noqa: S607 - whichever shell
    if done.returncode:
        raise PeerError(f"cannot be built (Debian: g++, pkg-config, libgrpc++-dev): {_last_line(done.stderr)}")


@contextmanager
def _peer(peer: str, protocol: Protocol, *options: str) -> Iterator[Running]:
    """A peer in its environment; raises PeerError when it cannot be installed or does not answer."""
    python, port = _interpreter(peer), _free_port()
    command = [str(python), "-m", f"tests.benchmarks.peers.{peer}_server", str(MODEL), str(port), *options]
    with TemporaryDirectory() as folder:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": folder}
        with (
            (Path(folder) / "log").open("w+") as log,
            subprocess.Popen(
                command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
            ) as process,
        ):
            running = Running(port, process.pid, process_group=process.pid)
            try:
                _wait_for_answer(process, protocol, port, Path(log.name))
                yield running
            finally:
                _stop(process, running)


def _stop(process: "subprocess.Popen[bytes]", running: Running) -> None:
    running.signal(signal.SIGCONT)
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
    running.signal(signal.SIGKILL)  # what it has left of its workers


def _wait_for_answer(process: "subprocess.Popen[bytes]", protocol: Protocol, port: int, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            protocol.ask(port, np.zeros((1, 28, 28), np.uint8))
        except (OSError, grpc.RpcError, ValueError):
            time.sleep(0.2)
        else:
            return
    raise PeerError(f"gave no answer: {_last_line(log.read_text())}")


def _interpreter(peer: str) -> Path:
    """The Python of the peer's environment; raises PeerError when that cannot be made."""
    home = ROOT / ".bench" / peer
    if fault := _install(peer, home):
        raise PeerError(f"cannot be installed: {fault}")
    return home / "bin" / "python"


@cache
def _install(peer: str, home: Path) -> str | None:
    """Make the environment, anew when its requirements have changed; gives what went wrong, and tries once a peer."""
    requirements, installed = PEERS / f"{peer}.txt", home / "installed"
    if installed.exists() and installed.read_text() == requirements.read_text():
        return None
    print(f"making the environment of {peer} in {home}", file=sys.stderr, flush=True)
    pip = ("pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes")
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(home)],
        [str(home / "bin" / "python"), "-m", *pip, "-r", str(requirements)],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return _last_line(done.stderr)
    installed.write_text(requirements.read_text())
    return None


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]


def _free_port() -> int:
    """A port that nobody listens on: peers cannot choose one themselves and say which."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def version(peer: str, package: str) -> str:
    """The version of a package in the peer's requirements."""
    found = re.search(rf"^{package}==(\S+)", (PEERS / f"{peer}.txt").read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"{peer}.txt pins no {package}, expected a line {package}==VERSION")
    return found[1]


def check(server: Server, running: Running, images: Images, digits: list[int]) -> None:
    """Demand the right digits; raises RuntimeError."""
    came = server.protocol.ask(running.port, images)
    if came != digits:
        raise RuntimeError(f"{server.name} gave {came[:10]}… for {len(images)} images, expected {digits[:10]}…")


def _of_peer(name: str, about: str, protocol: Protocol, *options: str) -> Server:
    peer, *_ = name.split("-")
    return Server(name, about, protocol, partial(_peer, peer, protocol, *options), peer)


OURS, ENVOY = "ours", "ours-envoy"
PLAIN = ("plain-asyncio", "plain-threads")
SERVERS = (
    Server(OURS, "python -m serving serve, with its defaults", DIGITS, _ours),
    Server("ours-2-workers", "the same with --workers 2", DIGITS, partial(_ours, "--workers", "2")),
    Server(ENVOY, "the same with --transport envoy", DIGITS, partial(_ours, "--transport", "envoy")),
    Server("ours-door", "ours behind python -m serving.door, on the same cores", DIGITS, _door),
    Server(PLAIN[0], "grpcio's event loop on uvloop, one call at a time", DIGITS, partial(_plain, "asyncio")),
    Server(PLAIN[1], "grpcio's thread pool, four threads", DIGITS, partial(_plain, "threads")),
    Server("bare-c++", "a C++ gRPC server that answers prepared bytes, without a model", DIGITS, _bare),
    _of_peer("mosec", "HTTP/1.1, bytes", pixels("/inference"), "single"),
    _of_peer("mosec-batching", "the same, batches of up to 64 calls within 1 ms", pixels("/inference"), "batching"),
    _of_peer("mlserver-rest", "V2 REST, JSON", V2_REST, "rest", "single"),
    _of_peer("mlserver-grpc", "V2 gRPC, raw tensors", V2_GRPC, "grpc", "single"),
    _of_peer("mlserver-grpc-batching", "the same, batches of up to 64 calls within 1 ms", V2_GRPC, "grpc", "batching"),
    _of_peer("litserve", "HTTP/1.1, bytes, fast_queue", pixels("/predict"), "single"),
    _of_peer("litserve-batching", "the same, batches of up to 64 calls within 1 ms", pixels("/predict"), "batching"),
)
