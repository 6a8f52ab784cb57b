"""Versions by number: which ones stay loaded, how they are proved, and what becomes of them when CURRENT moves on."""

import asyncio
import gc
import json
import logging
import os
import re
import shutil
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from serving.client import DigitClient
from serving.errors import NoModelError, UnknownVersionError
from serving.pixels import Images
from serving.session import Session
from serving.versions.repository import Refusal, Repository
from tests.programs import ServerProcess
from tests.serving.conftest import VERSIONS, Publisher, Serve, is_right
from tests.serving.test_metrics import scrape
from tests.serving.test_repository import Loader, damage


@pytest.fixture
def loader() -> Loader:
    """A loader that refuses nothing."""
    return Loader()


Follow = Callable[..., Repository]


@pytest.fixture
def follow(publisher: Publisher, loader: Loader) -> Follow:
    """A reader of the publisher's repository that keeps these versions."""

    def make(*versions: str, on_refusal: Callable[[Refusal], None] = lambda _: None) -> Repository:
        return Repository(publisher.model.directory, loader, on_refusal=on_refusal, versions=versions)

    return make


async def test_a_call_names_the_version_that_answers(
    serve: Serve, publisher: Publisher, images: Images, sessions: Mapping[int, Session]
) -> None:
    """None is the current one; a number is that one, bit for bit; all of them at once, in any order."""
    publisher.publish(1)
    publisher.publish(2)
    async with serve(versions="current,previous") as running:
        named = [None, 2, 1] * 40
        answers = await asyncio.gather(
            *(
                running.client.classify(images[index : index + 3], model_version=name)
                for index, name in enumerate(named)
            )
        )
    for index, (name, answer) in enumerate(zip(named, answers, strict=True)):
        assert answer.model_version == (name or 2)
        assert is_right(answer, images[index : index + 3], sessions)


async def test_each_version_is_described(serve: Serve, publisher: Publisher) -> None:
    """GetModel tells of the one that is named, and which ones there are."""
    publisher.publish(1)
    publisher.publish(2)
    async with serve(versions="current,previous") as running:
        current, previous = await running.client.model(), await running.client.model(model_version=1)
    assert (current.version, previous.version) == (2, 1)
    assert current.sha256 != previous.sha256
    assert current.loaded_versions == previous.loaded_versions == (1, 2)


async def test_a_version_that_is_not_loaded_is_not_found(serve: Serve, publisher: Publisher, images: Images) -> None:
    """NOT_FOUND, with the versions that are, and how to have more."""
    publisher.publish(1)
    publisher.publish(2)
    async with serve() as running:
        for version in (1, 3, -1):
            with pytest.raises(
                UnknownVersionError, match=f"version {version} is not loaded; expected one of 2,"
            ) as error:
                await running.client.classify(images[0], model_version=version)
            assert "--versions" in error.value.message
            assert error.value.field == "model_version"
            assert error.value.metadata == {"model_version": str(version), "loaded_versions": "2"}
            with pytest.raises(UnknownVersionError):
                await running.client.model(model_version=version)
        assert (await running.client.classify(images[0], model_version=2)).model_version == 2


def test_both_clients_name_a_version(served: ServerProcess, images: Images) -> None:
    """The sync one too, by pixels and by files; the program takes the default: the current version alone."""
    with DigitClient(served.address) as client:
        assert client.classify(images[0], model_version=1).model_version == 1
        assert client.model(model_version=1).loaded_versions == (1,)
        with pytest.raises(UnknownVersionError):
            client.classify_png([b"no PNG file"], model_version=2)


async def test_before_there_is_a_model_every_number_says_so(follow: Follow) -> None:
    """UNAVAILABLE, since a moment later it may be there."""
    repository = follow("1")
    await repository.refresh()
    with pytest.raises(NoModelError):
        repository.find(1)


async def test_the_previous_version_simply_stays(follow: Follow, publisher: Publisher, loader: Loader) -> None:
    """After a swap, and after a rollback: the same sessions, and no second load of the same bytes."""
    repository = follow("current", "previous")
    publisher.publish(1)
    await repository.refresh()
    first = repository.loaded.session
    publisher.publish(2)
    await repository.refresh()
    second = repository.loaded.session
    assert repository.session(1) is first
    publisher.publish(1)
    await repository.refresh()
    assert repository.loaded.session is repository.session(1) is first
    assert repository.session(2) is second
    assert loader.count == 2


FORGET: dict[str, Callable[[Path], object]] = {
    "garbled": lambda history: history.write_text("garbage\n"),
    "gone": lambda history: history.unlink(),
}


@pytest.mark.parametrize("fault", FORGET)
async def test_what_is_loaded_stays_while_history_cannot_be_read(
    follow: Follow, publisher: Publisher, fault: str
) -> None:
    """It was proved once; a fault in HISTORY.jsonl says nothing against it."""
    repository = follow("current", "previous")
    for version in (1, 2):
        publisher.publish(version)
        await repository.refresh()
    publisher.point_at(1)
    FORGET[fault](publisher.model.directory / "HISTORY.jsonl")
    await repository.refresh()
    assert repository.loaded.current.version == 1
    assert repository.loaded_versions == [1, 2]


async def test_a_version_that_is_not_wanted_any_more_is_freed(
    follow: Follow, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    """Current and previous move on, and the one before them goes; the log says so, once."""
    gc.collect()  # what other tests left would be freed, and logged, in this one
    caplog.set_level(logging.INFO)
    repository = follow("current", "previous")
    publisher.publish(1)
    await repository.refresh()
    first = weakref.ref(repository.loaded.session)
    publisher.publish(2)
    await repository.refresh()
    gc.collect()
    assert first() is not None
    publisher.publish(1)
    publisher.publish(2)
    publisher.publish(3)
    await repository.refresh()
    gc.collect()
    assert repository.loaded_versions == [2, 3]
    assert first() is None
    assert [record.message for record in caplog.records].count("version 1 is retired") == 1


async def test_memory_does_not_grow_over_swaps(follow: Follow, publisher: Publisher, loader: Loader) -> None:
    """Twenty swaps among three versions: two sessions live at any time, as the setting says."""
    made: list[weakref.ref[Session]] = []
    repository = Repository(
        publisher.model.directory,
        lambda version: keep_a_trace(loader(version), made),
        versions=("current", "previous"),
    )
    publisher.publish(1)
    publisher.publish(2)
    publisher.publish(3)
    for index in range(20):
        publisher.point_at(1 + index % 3)
        await repository.refresh()
        gc.collect()
        assert sum(trace() is not None for trace in made) == len(repository.loaded_versions) == 2


async def test_a_number_is_loaded_beside_the_current_version(follow: Follow, publisher: Publisher) -> None:
    """A fixed version stays, whatever CURRENT does; asked for before it exists, it comes when it is published."""
    refusals: list[Refusal] = []
    repository = follow("2", on_refusal=refusals.append)
    publisher.publish(1)
    await repository.refresh()
    assert repository.loaded_versions == [1]
    assert [refusal.version for refusal in refusals] == [2]
    publisher.publish(2)
    await repository.refresh()
    publisher.publish(1)
    await repository.refresh()
    assert repository.loaded_versions == [1, 2]
    assert repository.refusal is None


def forget_hashes(publisher: Publisher) -> None:
    """Write HISTORY as a writer before the field did."""
    path = publisher.model.directory / "HISTORY.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**line, "sha256": ""}) + "\n" for line in lines))


BREAK: dict[str, tuple[Callable[[Publisher], object], str]] = {
    "a damaged manifest": (
        lambda publisher: damage(publisher.model.path(1) / "manifest.json"),
        "manifest.json: sha256 is",
    ),
    "a damaged model": (lambda publisher: damage(publisher.model.path(1) / "model.onnx"), "model.onnx: sha256 is"),
    "damaged known answers": (
        lambda publisher: damage(publisher.model.path(1) / "known_answers.npz"),
        "known_answers.npz: sha256 is",
    ),
    "a directory that is gone": (lambda publisher: shutil.rmtree(publisher.model.path(1)), "cannot be read"),
    "a history that is gone": (
        lambda publisher: (publisher.model.directory / "HISTORY.jsonl").unlink(),
        "HISTORY.jsonl: cannot be read",
    ),
    "a garbled history": (
        lambda publisher: (publisher.model.directory / "HISTORY.jsonl").write_text("garbage\n"),
        "HISTORY.jsonl: is no readable JSON",
    ),
    "a history without hashes": (forget_hashes, "has no hash of version 1"),
}


@pytest.mark.parametrize("fault", BREAK)
async def test_a_bad_version_is_refused_and_the_current_one_never_notices(
    follow: Follow, publisher: Publisher, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    """One log line, one count, the reason for who asks; one try until CURRENT changes."""
    breaking, reason = BREAK[fault]
    publisher.publish(1)
    publisher.publish(2)
    breaking(publisher)
    refusals: list[Refusal] = []
    repository = follow("current", "previous", on_refusal=refusals.append)
    for _ in range(5):
        await repository.refresh()
    assert (repository.loaded.current.version, repository.refusal) == (2, None)
    assert [refusal.version for refusal in refusals] == [1]
    logged = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(logged) == 1
    assert re.match("(rejected version 1|cannot load version 1 yet): ", logged[0])
    assert logged[0].endswith("still serving version 2")
    with pytest.raises(UnknownVersionError) as error:
        repository.find(1)
    assert reason in logged[0]
    assert reason in error.value.message


async def test_a_version_that_was_mended_is_taken_when_its_files_change(
    follow: Follow, publisher: Publisher, loader: Loader
) -> None:
    """Not before, and then without a second load of the current one."""
    loader.refused = {1}
    repository = follow("current", "previous")
    publisher.publish(1)
    publisher.publish(2)
    await repository.refresh()
    loader.refused = set()
    await repository.refresh()
    assert repository.loaded_versions == [2]
    count = loader.count
    os.utime(publisher.model.path(1) / "model.onnx")
    await repository.refresh()
    assert repository.loaded_versions == [1, 2]
    assert loader.count == count + 1


async def test_a_refused_current_version_leaves_the_others_alone(follow: Follow, publisher: Publisher) -> None:
    """Whatever CURRENT names next, those that answer go on."""
    repository = follow("current", "previous")
    publisher.publish(1)
    publisher.publish(2)
    await repository.refresh()
    publisher.publish(3)
    damage(publisher.model.path(3) / "model.onnx")
    await repository.refresh()
    assert repository.refusal is not None
    assert (repository.loaded.current.version, repository.loaded_versions) == (2, [1, 2])


async def test_a_number_that_means_something_else_now_is_not_answered_by_the_old_session(
    follow: Follow, publisher: Publisher
) -> None:
    """A repository that was wiped and begun anew has no version 2, though the server still had one."""
    repository = follow("2")
    publisher.publish(2)
    publisher.publish(1)
    await repository.refresh()
    assert repository.loaded_versions == [1, 2]
    shutil.rmtree(publisher.model.directory)
    publisher.publish(1)
    await repository.refresh()
    assert repository.loaded_versions == [1]


async def test_metrics_speak_of_the_current_version(serve: Serve, publisher: Publisher) -> None:
    """One swap, whatever is loaded beside it; a refused further version is counted."""
    publisher.publish(1)
    publisher.publish(2)
    async with serve(metrics_port=0, versions="previous,7") as running:
        samples = await scrape(running)
    assert samples["serving_model_version",] == 2
    assert samples["serving_swaps_total",] == 1
    assert samples["serving_versions_refused_total",] == 1


async def test_known_answers_are_asked_of_every_version(
    serve: Serve, publisher: Publisher, images: Images, sessions: Mapping[int, Session]
) -> None:
    """The server's own loading: a model of other weights, with hashes that fit, is found out."""
    publisher.publish(1)
    publisher.publish_copy(3, of=2, model=(VERSIONS / "1" / "model.onnx").read_bytes())
    publisher.publish(2)
    async with serve(versions="1,3") as running:
        assert (await running.client.model()).loaded_versions == (1, 2)
        with pytest.raises(UnknownVersionError, match="known answers: logits are"):
            await running.client.classify(images[0], model_version=3)
        answer = await running.client.classify(images[:5], model_version=1)
    assert np.array_equal(answer.probabilities, sessions[1].run(images[:5]).probabilities)


def keep_a_trace(session: Session, traces: "list[weakref.ref[Session]]") -> Session:
    """Remember a session without holding it."""
    traces.append(weakref.ref(session))
    return session
