"""Repositories with real versions that the pipeline made, and servers over them. Needs neither torch nor onnx."""

import logging
import re
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from pipeline.versions.history import to_json
from pipeline.versions.repository import ModelRepository
from protos.artifact.layout import sha256_of
from protos.artifact.v1.manifest_pb2 import Current
from serving.client import AsyncDigitClient, Classifications
from serving.config import Settings
from serving.errors import ProviderError
from serving.idx import read_images, read_labels
from serving.pixels import Images
from serving.provider import CPU, CUDA, execution_provider
from serving.server import Server
from serving.session import Session
from serving.versions.manifest import Version, read_version
from serving.workers.supervisor import Supervisor
from tests.programs import ROOT, ServerProcess, server_process

VERSIONS = Path(__file__).parent / "versions"
"""Versions 1 and 2, with different weights; 3, for images of 24 x 24 pixels; 4, for letters, 20 x 20, in colour.

`python -m tests.serving.make_versions` made them.
"""

MNIST = ROOT / "data" / "mnist"


@dataclass(frozen=True)
class Publisher:
    """Puts the versions into a repository, as the pipeline would."""

    root: Path

    @property
    def model(self) -> ModelRepository:
        """The model's folder and its CURRENT."""
        return ModelRepository(self.root / "digits")

    def publish(self, version: int) -> Current:
        """Make version 1, 2, 3 or 4 current."""
        if not self.model.path(version).exists():
            shutil.copytree(VERSIONS / str(version), self.model.path(version))
        return self.point_at(version)

    def publish_copy(
        self, version: int, *, of: int, model: bytes | None = None, features: bytes | Literal["none"] | None = None
    ) -> Current:
        """Make one of the versions current under another number, if need be with other files: every hash fits.

        With `features="none"` it is as it was published before there were feature maps.
        """
        directory = self.model.path(version)
        shutil.copytree(VERSIONS / str(of), directory)
        for path in directory.iterdir():
            path.chmod(0o644)
        manifest = self.model.manifest(version)
        manifest.version = version
        for file in [*manifest.files]:
            path, content = directory / file.path, {"model.onnx": model, "features.onnx": features}.get(file.path)
            if content == "none":
                path.unlink()
                manifest.files.remove(file)
            elif content is not None:
                path.write_bytes(content)
                file.sha256, file.size_bytes = sha256_of(path), len(content)
        (directory / "manifest.json").write_bytes(to_json(manifest))
        return self.point_at(version)

    def point_at(self, version: int) -> Current:
        """Make a version directory current, whatever is in it by now."""
        with self.model.writing():
            return self.model.point_at(version, "publish")


@dataclass(frozen=True)
class RunningServer:
    """A server in the event loop of the test, and a client for it."""

    server: Server | Supervisor
    address: str
    client: AsyncDigitClient


Serve = Callable[..., AbstractAsyncContextManager[RunningServer]]


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    """An empty repository and its publisher."""
    return Publisher(tmp_path / "repository")


class Clock:
    """Seconds, as the test says."""

    now_s = 0.0

    def __call__(self) -> float:
        """The time."""
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    """A clock at 0."""
    return Clock()


TRANSPORTS = ("http2", pytest.param("envoy", marks=pytest.mark.slow))
"""The default, and in `make check-slow` the other one, whose own tests are in test_envoy.py."""


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """What takes the calls, unless docs/transports.md says why a test cannot run with it."""
    name: str = request.param
    return name


@pytest.fixture
def serve(publisher: Publisher, transport: str) -> Serve:
    """Start a server on the publisher's repository, on a free port, with these settings."""

    @asynccontextmanager
    async def start(**settings: Any) -> AsyncIterator[RunningServer]:
        quick = {"port": 0, "provider": "cpu", "poll_ms": 20, "drain_linger_s": 0.02, "repository": publisher.root}
        chosen = Settings(**{"transport": transport, **quick, **settings})
        server: Server | Supervisor = Server(chosen) if chosen.transport != "envoy" else Supervisor(chosen)
        await server.start()
        address = f"127.0.0.1:{server.port}"
        try:
            async with AsyncDigitClient(address) as client:
                yield RunningServer(server, address, client)
        finally:
            await server.drain()

    return start


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """Gives what servers have logged at warning or above: in this process, and in those inside Envoy."""

    def logged() -> list[str]:
        here = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        there = re.findall(r"^\S+ \S+ (?:WARNING|ERROR|CRITICAL) \S+: (.*)$", capfd.readouterr().err, re.MULTILINE)
        return here + there

    return logged


@pytest.fixture
def served(publisher: Publisher, tmp_path: Path, transport: str) -> Iterator[ServerProcess]:
    """The server program itself, serving version 1."""
    publisher.publish(1)
    options = ("--transport", transport, "--poll-ms", "20", "--drain-linger-s", "0.3")
    with server_process(publisher.root, tmp_path / "server.log", *options) as process:
        yield process


@pytest.fixture(scope="session")
def versions() -> Mapping[int, Version]:
    """Every version, read."""
    current = {
        number: Current(version=number, sha256=sha256_of(VERSIONS / str(number) / "manifest.json"))
        for number in (1, 2, 3, 4)
    }
    return {number: read_version(VERSIONS, named) for number, named in current.items()}


@pytest.fixture(scope="session")
def sessions(versions: Mapping[int, Version]) -> Mapping[int, Session]:
    """Every version, loaded here: what a server should have answered."""
    return {number: Session(version, provider=CPU, threads=1) for number, version in versions.items()}


@pytest.fixture(scope="session")
def images() -> Images:
    """The first thousand test images of MNIST, uint8 (1000, 28, 28)."""
    return read_images(MNIST / "t10k-images-idx3-ubyte.gz")[:1000]


@pytest.fixture(scope="session")
def labels() -> Images:
    """Their labels, uint8 (1000,)."""
    return read_labels(MNIST / "t10k-labels-idx1-ubyte.gz")[:1000]


def has_cuda() -> bool:
    """Whether a CUDA device is really there."""
    try:
        return execution_provider("cuda") == CUDA
    except ProviderError:
        return False


def is_right(answer: Classifications, images: Images, sessions: Mapping[int, Session]) -> bool:
    """Whether the version that an answer names gives these very bits for these images."""
    return np.array_equal(answer.probabilities, sessions[answer.model_version].run(images).probabilities)
