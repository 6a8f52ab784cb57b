"""Following CURRENT: what is good is loaded, what is not never touches what answers."""

import asyncio
import gc
import os
import random
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from protos.artifact.v1.manifest_pb2 import Current
from serving.errors import NoModelError, VersionRefusedError
from serving.pixels import Images
from serving.provider import CPU
from serving.session import Session
from serving.versions.limited import MAX_HUNG
from serving.versions.loaded import Loaded
from serving.versions.manifest import Version
from serving.versions.repository import Refusal, Repository
from serving.versions.retry import FIRST_S, SLOW_S
from tests.serving.conftest import Clock, Publisher
from tests.unprivileged import unprivileged_folder


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
def repository(publisher: Publisher, loader: Loader, clock: Clock) -> Repository:
    """A reader of the publisher's repository, whose retries go by the clock."""
    return Repository(publisher.model.directory, loader, clock=clock)


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


async def test_what_was_rejected_is_not_loaded_at_every_poll(
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


async def test_a_missing_file_is_retrying_and_withdrawn_when_it_arrives(
    repository: Repository, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    """CURRENT may arrive before what it names; one line says so, however often it is tried."""
    publisher.publish(1)
    await repository.refresh()
    publisher.publish(2)
    model = publisher.model.path(2) / "model.onnx"
    model.rename(away := publisher.root / "away")
    for _ in range(3):
        await repository.refresh()
        os.utime(model.parent / "manifest.json")
    assert repository.refusal is not None
    assert repository.refusal.is_retrying
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert caplog.records[0].getMessage().startswith("cannot load version 2 yet: ")
    away.rename(model)
    await repository.refresh()
    assert (repository.loaded.current.version, repository.refusals) == (2, [])


async def test_wrong_bytes_are_rejected_and_loaded_when_they_are_replaced(
    repository: Repository, publisher: Publisher
) -> None:
    """As by an rsync that runs again."""
    publisher.publish(1)
    damage(model := publisher.model.path(1) / "model.onnx")
    await repository.refresh()
    assert repository.refusal is not None
    assert not repository.refusal.is_retrying
    damage(model)  # the same bit once more
    await repository.refresh()
    assert (repository.loaded.current.version, repository.refusals) == (1, [])


async def test_a_fault_that_changes_no_file_is_retried_with_time(
    repository: Repository, publisher: Publisher, loader: Loader, clock: Clock
) -> None:
    """A GPU that was busy, a disk that returned wrong bytes."""
    loader.refused = {1}
    publisher.publish(1)
    await repository.refresh()
    loader.refused = set()
    await repository.refresh()
    assert (loader.count, len(repository.refusals)) == (1, 1)
    clock.now_s = 60
    await repository.refresh()
    assert (loader.count, repository.refusals) == (2, [])


async def test_a_rejected_further_version_is_retried_and_the_current_one_is_not_loaded_again(
    publisher: Publisher, loader: Loader, clock: Clock
) -> None:
    """Its line in HISTORY may arrive last."""
    repository = Repository(publisher.model.directory, loader, versions=["current", "1"], clock=clock)
    publisher.publish(1)
    publisher.publish(2)
    history = publisher.model.directory / "HISTORY.jsonl"
    history.rename(away := publisher.root / "away")
    await repository.refresh()
    assert ([refusal.version for refusal in repository.refusals], repository.loaded_versions) == ([1], [2])
    away.rename(history)
    await repository.refresh()
    assert (repository.refusals, repository.loaded_versions, loader.count) == ([], [1, 2], 2)


@pytest.mark.parametrize("kind", ["a FIFO", "a directory", "a device", "3 GB"])
async def test_a_current_that_is_not_a_small_file_is_rejected_until_it_is_replaced(
    repository: Repository, publisher: Publisher, kind: str
) -> None:
    """Nothing waits for its end, and the version before keeps serving."""
    publisher.publish(1)
    await repository.refresh()
    current = publisher.model.directory / "CURRENT"
    current.unlink()
    match kind:
        case "a FIFO":
            os.mkfifo(current)
        case "a directory":
            current.mkdir()
        case "a device":
            current.symlink_to("/dev/zero")
        case _:
            current.touch()
            os.truncate(current, 3 << 30)
    await repository.refresh()
    assert repository.refusal is not None
    assert not repository.refusal.is_retrying
    assert f"is {kind}, expected" in repository.refusal.reason or "is larger than 65536" in repository.refusal.reason
    current.rmdir() if kind == "a directory" else current.unlink()
    publisher.publish(2)
    await repository.refresh()
    assert (repository.loaded.current.version, repository.refusals) == (2, [])


async def test_a_current_without_permission_is_reported_as_such_and_served_with_it(loader: Loader) -> None:
    """It is not missing: the message says what to change."""
    with unprivileged_folder() as folder:
        publisher = Publisher(folder / "repository")
        publisher.publish(1)
        (current := publisher.model.directory / "CURRENT").chmod(0)
        repository = Repository(publisher.model.directory, loader)
        await repository.refresh()
        assert repository.refusal is not None
        assert repository.refusal.reason == f"{current}: cannot be read: Permission denied"
        assert repository.refusal.is_retrying
        current.chmod(0o444)
        await repository.refresh()
        assert (repository.loaded.current.version, repository.refusals) == (1, [])


async def test_a_load_that_hangs_is_rejected_and_the_next_version_is_served(publisher: Publisher) -> None:
    """Its thread is abandoned, and it is not tried again while nothing changes."""
    ends, hung = threading.Event(), 0

    def load(version: Version) -> Session:
        nonlocal hung
        if version.manifest.version == 1:
            hung += 1
            ends.wait()
        return Session(version, provider=CPU, threads=1)

    repository = Repository(publisher.model.directory, load, load_limit_s=2.0)
    publisher.publish(1)
    for _ in range(5):
        await repository.refresh()
    assert [refusal.reason for refusal in repository.refusals] == ["it did not load within 2 s"]
    assert hung == 1
    publisher.publish(2)
    await repository.refresh()
    assert (repository.loaded.current.version, repository.refusals) == (2, [])
    ends.set()


async def test_a_disk_that_hung_is_tried_again_once_it_answers(publisher: Publisher, clock: Clock) -> None:
    """Without a change of any file; while it hangs, and eight loads of others do, CURRENT is followed all the same."""
    ends, tries = threading.Event(), 0

    def load(version: Version) -> Session:
        nonlocal tries
        if version.manifest.version == 2:
            tries += 1
            ends.wait()
        return Session(version, provider=CPU, threads=1)

    repository = Repository(publisher.model.directory, load, load_limit_s=2.0, clock=clock)
    publisher.publish(1)
    await repository.refresh()
    repository._loader.limit_s = 0.05
    for _ in range(MAX_HUNG + 1):
        publisher.publish(2)  # each time with another generation
        await repository.refresh()
    assert [refusal.reason for refusal in repository.refusals] == ["it was not loaded, since other loads hang"]
    assert tries == MAX_HUNG
    clock.now_s += SLOW_S
    await repository.refresh()
    assert tries == MAX_HUNG
    ends.set()
    repository._loader.limit_s = 60.0
    while repository.refusals:
        clock.now_s += SLOW_S
        await repository.refresh()
    assert repository.loaded.current.version == 2


@pytest.mark.parametrize("error", [MemoryError(), OSError(12, "Cannot allocate memory")], ids=["Python", "the system"])
async def test_a_load_without_memory_is_retried(publisher: Publisher, clock: Clock, error: Exception) -> None:
    """There may be some in a moment."""
    errors = [error]

    def load(version: Version) -> Session:
        if errors:
            raise errors.pop()
        return Session(version, provider=CPU, threads=1)

    repository = Repository(publisher.model.directory, load, clock=clock)
    publisher.publish(1)
    await repository.refresh()
    assert [refusal.is_retrying for refusal in repository.refusals] == [True]
    clock.now_s += FIRST_S
    await repository.refresh()
    assert (repository.loaded.current.version, repository.refusals) == (1, [])


@pytest.mark.parametrize("content", [None, b""], ids=["missing", "empty"])
async def test_a_history_that_arrives_last_is_waited_for(publisher: Publisher, content: bytes | None) -> None:
    """Nothing is wrong with the further version: it is retried, and loaded with the first poll after the file's end."""
    publisher.publish(1)
    publisher.publish(2)
    history = publisher.model.directory / "HISTORY.jsonl"
    whole = history.read_bytes()
    history.unlink() if content is None else history.write_bytes(content)
    repository = Repository(publisher.model.directory, Loader(), versions=["1"])
    await repository.refresh()
    assert [(refusal.version, refusal.is_retrying) for refusal in repository.refusals] == [(1, True)]
    history.write_bytes(whole)
    await repository.refresh()
    assert (repository.loaded_versions, repository.refusals) == ([1, 2], [])


async def test_a_poll_that_fails_unexpectedly_is_made_up_for(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever CURRENT named meanwhile is followed at the next poll."""
    repository = Repository(publisher.model.directory, Loader())
    publisher.publish(1)
    with monkeypatch.context() as broken:
        broken.setattr(Repository, "_follow", None)
        watching = asyncio.create_task(repository.watch(0.01))
        await asyncio.sleep(0.05)
    while not repository.loaded_versions:
        await asyncio.sleep(0.01)
    watching.cancel()


def arrivals(source: Path, target: Path, chance: random.Random) -> Iterator[None]:
    """The files of a repository as they arrive in some order: in one step, or growing in place, or by a rename."""
    files = [path for path in source.rglob("*") if path.is_file() and path.name != ".lock"]
    chance.shuffle(files)
    for file in files:
        content, path = file.read_bytes(), target / file.relative_to(source)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True) if chance.random() < 0.5 else None
        way = chance.choice(["at once", "grows", "is renamed", "is overwritten"])
        partial = path.with_name(f".{path.name}.part") if way == "is renamed" else path
        for end in sorted(chance.randrange(len(content)) for _ in range(chance.randrange(4))):
            if way == "is overwritten":
                partial.write_bytes(content[:end] + bytes(len(content) - end))
            elif way != "at once":
                partial.write_bytes(content[:end])
            yield
        partial.write_bytes(content)
        partial.replace(path)
        yield


@pytest.mark.parametrize(
    "seeds", [range(20), pytest.param(range(20, 300), marks=pytest.mark.slow)], ids=["20 seeds", "280 seeds"]
)
async def test_files_that_arrive_in_any_order_are_served_with_the_last_byte(
    publisher: Publisher, tmp_path: Path, sessions: Mapping[int, Session], images: Images, seeds: range
) -> None:
    """The poll after the last byte serves the version, without a moment of any clock; before it the old one answers."""
    publisher.publish(1)
    shutil.copytree(publisher.root, before := tmp_path / "before")
    publisher.publish(2)
    expected = {version: session.run(images[:3]).logits for version, session in sessions.items() if version < 3}
    for seed in seeds:
        shutil.copytree(before, target := tmp_path / f"{seed}")
        repository = Repository(target / "digits", Loader(), clock=Clock())
        await repository.refresh()
        chance = random.Random(seed)  # noqa: S311 - for tests
        for _ in arrivals(publisher.root, target, chance):
            if chance.random() < 0.5:
                await repository.refresh()
                served = repository.loaded.session
                assert np.array_equal(served.run(images[:3]).logits, expected[served.manifest.version]), seed
        await repository.refresh()
        assert (repository.loaded.current.version, repository.refusals) == (2, []), seed
        shutil.rmtree(target)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("rsync") is None, reason="needs Debian's rsync")
@pytest.mark.parametrize("way", ["--delay-updates", "--whole-file", "--inplace", "--bwlimit=200"])
async def test_what_rsync_copies_is_served_within_a_second_of_its_end(
    publisher: Publisher, tmp_path: Path, sessions: Mapping[int, Session], images: Images, way: str
) -> None:
    """The real program, beside a server's polls; every answer is a whole version's."""
    expected = {version: session.run(images[:3]).logits for version, session in sessions.items() if version < 3}
    publisher.publish(1)
    shutil.copytree(publisher.root, target := tmp_path / "target")
    repository = Repository(target / "digits", Loader())
    for round_number in range(6):
        publisher.publish(round_number % 2 + 1)
        command = ("rsync", "-a", "--modify-window=-1", way, f"{publisher.root}/", f"{target}/")
        copying = await asyncio.create_subprocess_exec(*command)
        while copying.returncode is None:
            await repository.refresh()
            if repository.loaded_versions:
                served = repository.loaded.session
                assert np.array_equal(served.run(images[:3]).logits, expected[served.manifest.version])
            await asyncio.sleep(0.02)
        assert copying.returncode == 0
        for _ in range(4):  # a second of polls
            await repository.refresh()
        assert (repository.loaded.current.version, repository.refusals) == (round_number % 2 + 1, [])
