"""What must not be served, seen from outside: a real server keeps serving, logs one line, counts one, and says why."""

import asyncio
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pipeline.versions.history import to_json
from protos.artifact.layout import sha256_of
from protos.artifact.v1.manifest_pb2 import Current
from serving.pixels import Images
from serving.session import Session
from tests.serving.conftest import VERSIONS, Publisher, Serve, is_right
from tests.serving.test_metrics import scrape
from tests.serving.test_repository import damage

POLL_S = 0.02
OPSET = b"\x0a\x00\x10\x14"
"""Opset 20 of the default domain, as it stands in the models of the tests."""


def name(publisher: Publisher, content: bytes) -> None:
    """Replace CURRENT in one step, as the pipeline does: nobody reads half of it."""
    replacement = publisher.root / "replacement"
    replacement.write_bytes(content)
    replacement.replace(publisher.model.directory / "CURRENT")


def name_version_2(publisher: Publisher) -> None:
    """Have CURRENT name version 2 as it was published, whatever its directory holds by now."""
    sha256 = sha256_of(VERSIONS / "2" / "manifest.json")
    name(publisher, to_json(Current(version=2, sha256=sha256, previous=1, generation=9)))


def broken(change: Callable[[Path], object]) -> Callable[[Publisher], None]:
    """Version 2 with such a change of its directory, and a CURRENT that names it."""

    def publish(publisher: Publisher) -> None:
        change(publisher.model.path(2))
        name_version_2(publisher)

    return publish


def forbid(directory: Path) -> None:
    """Take every right; root keeps reading, and then there is nothing to test."""
    directory.chmod(0)
    if os.access(directory, os.R_OK):
        directory.chmod(0o755)
        pytest.skip("root reads a directory of mode 000 all the same")


def replace_by_directory(path: Path) -> None:
    """A directory where a file should be: it is there, and cannot be read."""
    path.unlink()
    path.mkdir()


def replace_by_link(path: Path) -> None:
    """A link that leads nowhere: it is listed, and cannot be read."""
    path.unlink()
    path.symlink_to("nowhere")


def replace_by_file(directory: Path) -> None:
    """A file where the version directory should be."""
    shutil.rmtree(directory)
    directory.write_text("")


def publish_newer_opset(publisher: Publisher) -> None:
    """A whole version, with hashes that fit, which this onnxruntime is too old for."""
    model = (VERSIONS / "2" / "model.onnx").read_bytes()
    assert model.count(OPSET) == 1
    publisher.publish_copy(4, of=2, model=model.replace(OPSET, OPSET[:-1] + b"\x7f"))


FAULTS: dict[str, tuple[Callable[[Publisher], object], str]] = {
    "a model of a newer opset": (publish_newer_opset, "onnxruntime cannot load it: .*opset"),
    "a damaged model": (broken(lambda directory: damage(directory / "model.onnx")), "model.onnx: sha256 is"),
    "damaged feature maps": (broken(lambda directory: damage(directory / "features.onnx")), "features.onnx: sha256 is"),
    "a version directory of mode 000": (broken(forbid), "manifest.json: cannot be read: Permission denied"),
    "a version directory that is gone": (broken(shutil.rmtree), "manifest.json: cannot be read: No such file"),
    "a version directory that is a file": (broken(replace_by_file), "manifest.json: cannot be read: Not a directory"),
    "a model that is a directory": (
        broken(lambda directory: replace_by_directory(directory / "model.onnx")),
        "model.onnx: is a directory, expected a regular file",
    ),
    "a manifest that is a link to nowhere": (
        broken(lambda directory: replace_by_link(directory / "manifest.json")),
        "manifest.json: cannot be read: No such file",
    ),
    "a garbled CURRENT": (lambda publisher: name(publisher, b"\xffgarbage"), "CURRENT: is no readable JSON"),
    "an empty CURRENT": (lambda publisher: name(publisher, b""), "CURRENT: is no readable JSON"),
    "a CURRENT that is gone": (
        lambda publisher: (publisher.model.directory / "CURRENT").unlink(),
        "CURRENT: is missing",
    ),
    "a repository that is gone": (
        lambda publisher: publisher.root.rename(publisher.root.with_name("away")),
        "CURRENT: is missing",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_the_old_version_goes_on_and_the_fault_is_told_once(
    serve: Serve,
    publisher: Publisher,
    images: Images,
    sessions: Mapping[int, Session],
    warned: Callable[[], list[str]],
    fault: str,
) -> None:
    """One log line, one count, one try; GetModel says why; the next good version is taken."""
    make, reason = FAULTS[fault]
    publisher.publish(2)
    publisher.publish(1)
    async with serve(metrics_port=0, poll_ms=int(1000 * POLL_S)) as running:
        make(publisher)
        while not (described := await running.client.model()).refusal:
            await asyncio.sleep(POLL_S)
        await asyncio.sleep(10 * POLL_S)  # a second try would be told by now
        refused = warned()
        samples = await scrape(running)
        answer = await running.client.classify(images[:5])
        mend(publisher)
        while (after := await running.client.model()).version != 2:
            await asyncio.sleep(POLL_S)
    assert described.version == answer.model_version == 1
    assert is_right(answer, images[:5], sessions)
    assert samples["serving_versions_refused_total",] == samples["serving_swaps_total",] == 1
    assert samples["serving_model_version",] == 1
    assert len(refused) == 1
    assert refused[0].endswith("still serving version 1")
    assert re.search(reason, described.refusal)
    assert described.refusal in refused[0]
    assert after.refusal == ""


async def test_a_repository_that_comes_back_unchanged_is_followed_as_before(serve: Serve, publisher: Publisher) -> None:
    """Nothing is loaded again, and nothing is refused any more."""
    publisher.publish(1)
    away = publisher.root.with_name("away")
    async with serve(metrics_port=0) as running:
        publisher.root.rename(away)
        while not (await running.client.model()).refusal:
            await asyncio.sleep(POLL_S)
        away.rename(publisher.root)
        while (await running.client.model()).refusal:
            await asyncio.sleep(POLL_S)
        samples = await scrape(running)
    assert samples["serving_swaps_total",] == samples["serving_versions_refused_total",] == 1


def mend(publisher: Publisher) -> None:
    """Undo whatever was done, and publish version 2."""
    away = publisher.root.with_name("away")
    if away.exists():
        away.rename(publisher.root)
    directory = publisher.model.path(2)
    if directory.is_file():
        directory.unlink()
    elif directory.exists():
        directory.chmod(0o755)
        shutil.rmtree(directory)
    publisher.publish(2)
