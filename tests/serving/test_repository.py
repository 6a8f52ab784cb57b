"""Following CURRENT: what is good is loaded, what is not never touches what answers."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from protos.artifact.v1.manifest_pb2 import Current
from serving.errors import NoModelError, VersionRefusedError
from serving.provider import CPU
from serving.session import Session
from serving.versions.loaded import Loaded
from serving.versions.manifest import Version
from serving.versions.repository import Refusal, Repository
from tests.serving.conftest import Publisher


@dataclass
class Loader:
    """Loads for real, counts how often, and refuses what the test says."""

    refused: set[int] = field(default_factory=set)
    count: int = 0

    def __call__(self, version: Version) -> Session:
        """Load and prove a version."""
        self.count += 1
        if version.manifest.version in self.refused:
            raise VersionRefusedError("refused by the test")
        session = Session(version, provider=CPU, threads=1)
        session.check_known_answers(version.known_answers)
        return session


@pytest.fixture
def loader() -> Loader:
    """A loader that refuses nothing."""
    return Loader()


@pytest.fixture
def repository(publisher: Publisher, loader: Loader) -> Repository:
    """A reader of the publisher's repository."""
    return Repository(publisher.model.directory, loader)


def damage(path: Path) -> None:
    """Change one byte in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


async def test_without_a_model_it_waits(repository: Repository) -> None:
    """No folder, no CURRENT: nothing is loaded, and nothing breaks."""
    await repository.refresh()
    with pytest.raises(NoModelError) as error:
        _ = repository.loaded
    assert error.value.retry_after_s is not None
    assert repository.refusal is None


async def test_the_first_version_is_loaded_when_it_is_published(repository: Repository, publisher: Publisher) -> None:
    """Start-up is the first reload."""
    await repository.refresh()
    publisher.publish(1)
    await repository.refresh()
    assert repository.loaded.current.version == 1


async def test_a_new_version_takes_over(publisher: Publisher, loader: Loader) -> None:
    """CURRENT changes, the session changes, and whoever listens is told."""
    told: list[Loaded] = []
    repository = Repository(publisher.model.directory, loader, told.append)
    for version in (1, 2):
        publisher.publish(version)
        await repository.refresh()
    assert [loaded.current.version for loaded in told] == [1, 2]
    assert repository.loaded.session.manifest.version == 2


async def test_the_same_current_is_loaded_once(repository: Repository, publisher: Publisher, loader: Loader) -> None:
    """Polling costs a read of one small file."""
    publisher.publish(1)
    for _ in range(5):
        await repository.refresh()
    assert loader.count == 1


async def test_a_new_generation_of_the_same_version_keeps_its_session(
    repository: Repository, publisher: Publisher, loader: Loader
) -> None:
    """Pointing at what already answers loads nothing."""
    for _ in range(2):
        publisher.publish(1)
        await repository.refresh()
    assert loader.count == 1


async def test_a_rollback_is_followed(repository: Repository, publisher: Publisher) -> None:
    """From 2 back to 1."""
    for version in (1, 2, 1):
        publisher.publish(version)
        await repository.refresh()
    assert repository.loaded.current.version == 1


async def test_the_old_session_is_freed(repository: Repository, publisher: Publisher) -> None:
    """Once nobody runs it any more, it is gone."""
    publisher.publish(1)
    await repository.refresh()
    old = weakref.ref(repository.loaded.session)
    publisher.publish(2)
    await repository.refresh()
    gc.collect()
    assert old() is None


BREAK: dict[str, Callable[[Publisher], object]] = {
    "a damaged model": lambda publisher: damage(publisher.model.path(2) / "model.onnx"),
    "a damaged manifest": lambda publisher: damage(publisher.model.path(2) / "manifest.json"),
    "damaged known answers": lambda publisher: damage(publisher.model.path(2) / "known_answers.npz"),
    "a missing model": lambda publisher: (publisher.model.path(2) / "model.onnx").unlink(),
    "a garbled CURRENT": lambda publisher: (publisher.model.directory / "CURRENT").write_bytes(b"{"),
    "a missing CURRENT": lambda publisher: (publisher.model.directory / "CURRENT").unlink(),
}


@pytest.mark.parametrize("fault", BREAK)
async def test_whatever_is_wrong_the_old_version_goes_on(
    repository: Repository, publisher: Publisher, fault: str
) -> None:
    """The session stays, the refusal says why, and a good version afterwards is taken."""
    publisher.publish(1)
    await repository.refresh()
    session = repository.loaded.session
    publisher.publish(2)
    (publisher.model.directory / "CURRENT").chmod(0o644)
    BREAK[fault](publisher)
    await repository.refresh()
    assert repository.loaded.session is session
    assert repository.refusal is not None
    (publisher.model.directory / "CURRENT").unlink(missing_ok=True)
    publisher.publish(1)
    await repository.refresh()
    assert repository.refusal is None


async def test_what_was_refused_is_tried_again_only_when_current_changes(
    repository: Repository, publisher: Publisher, loader: Loader
) -> None:
    """A bad version costs one try, not one a poll."""
    loader.refused = {2}
    publisher.publish(1)
    await repository.refresh()
    publisher.publish(2)
    for _ in range(5):
        await repository.refresh()
    assert loader.count == 2
    assert repository.refusal is not None
    assert (repository.refusal.version, repository.refusal.reason) == (2, "refused by the test")
    loader.refused = set()
    publisher.point_at(2)
    await repository.refresh()
    assert repository.loaded.current.version == 2


async def test_a_first_version_that_is_bad_is_told_to_callers(
    repository: Repository, publisher: Publisher, loader: Loader
) -> None:
    """Nothing to serve, and the reason why."""
    loader.refused = {1}
    publisher.publish(1)
    await repository.refresh()
    with pytest.raises(NoModelError, match="refused by the test"):
        _ = repository.loaded


async def test_an_unexpected_failure_of_loading_is_a_refusal_too(publisher: Publisher) -> None:
    """The watcher goes on, whatever loading raises; the text stays in the log."""

    def load(_version: Version) -> Session:
        raise RuntimeError("secret")

    repository = Repository(publisher.model.directory, load)
    publisher.publish(1)
    await repository.refresh()
    assert repository.refusal is not None
    assert repository.refusal.reason == "loading failed: RuntimeError"


async def test_a_repository_that_goes_away_and_comes_back_is_followed_again(
    repository: Repository, publisher: Publisher, tmp_path: Path
) -> None:
    """Unmounted and mounted again, with a newer version in it."""
    publisher.publish(1)
    await repository.refresh()
    publisher.root.rename(tmp_path / "away")
    await repository.refresh()
    assert repository.refusal is not None
    assert repository.loaded.current.version == 1
    (tmp_path / "away").rename(publisher.root)
    publisher.publish(2)
    await repository.refresh()
    assert repository.loaded.current.version == 2
    assert repository.refusal is None


class SlowGate:
    """Lets a version in when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[int] = []
        self.opened = asyncio.Event()

    async def wait(self, current: Current) -> None:
        """Note which version waits, and wait."""
        self.waiting.append(current.version)
        await self.opened.wait()

    def refused(self, refusal: Refusal) -> None:
        """Nothing to do."""


@pytest.fixture
async def at_the_gate(publisher: Publisher, loader: Loader) -> tuple[Repository, SlowGate, asyncio.Task[None]]:
    """A repository that serves version 1, whose version 2 is loaded and waits at the gate."""
    gate = SlowGate()
    repository = Repository(publisher.model.directory, loader, gate=gate)
    gate.opened.set()
    publisher.publish(1)
    await repository.refresh()
    gate.opened.clear()
    publisher.publish(2)
    refreshing = asyncio.create_task(repository.refresh())
    while gate.waiting != [1, 2]:
        await asyncio.sleep(0.01)
    return repository, gate, refreshing


async def test_a_version_waits_at_the_gate_until_it_opens(
    at_the_gate: tuple[Repository, SlowGate, asyncio.Task[None]],
) -> None:
    """The old one answers meanwhile."""
    repository, gate, refreshing = at_the_gate
    assert repository.loaded.current.version == 1
    gate.opened.set()
    await refreshing
    assert repository.loaded.current.version == 2


async def test_a_version_leaves_the_gate_when_current_names_another_one(
    at_the_gate: tuple[Repository, SlowGate, asyncio.Task[None]], publisher: Publisher
) -> None:
    """Else it would wait for processes that have only seen the newer one; the next look follows that."""
    repository, gate, refreshing = at_the_gate
    publisher.publish(1)
    await refreshing
    assert repository.loaded.current.generation == 1
    gate.opened.set()
    publisher.publish(2)
    await repository.refresh()
    assert repository.loaded.current.generation == 4
