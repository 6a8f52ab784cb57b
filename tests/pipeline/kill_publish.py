"""Kills a publishing process with SIGKILL before every line that touches the disk, and looks at what it left.

`python -m tests.pipeline.kill_publish FOLDER`; a program of its own, since it forks, which a process with threads
should not. Prints what it did as JSON; fails with an assertion at the first thing that is wrong.
"""

import json
import shutil
import sys
from multiprocessing import get_context
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path

from pipeline import publish as publish_module
from pipeline.publish import publish
from pipeline.versions import durable, history
from pipeline.versions import repository as repository_module
from pipeline.versions.repository import ModelRepository
from protos.artifact.layout import sha256_of
from protos.artifact.v1.manifest_pb2 import Manifest
from serving.provider import CPU
from serving.session import Session
from serving.versions.manifest import parse_current, read_version
from tests.pipeline.killed import run_until_killed

VERSIONS = Path(__file__).parents[1] / "serving" / "versions"
FILES = {"model.onnx", "features.onnx", "known_answers.npz", "README.md", "report/index.html"}
WATCHED = {str(module.__file__) for module in (publish_module, durable, history, repository_module)}


def description(version: int) -> Manifest:
    """What describes one of the two real versions; of no run, so that a repeated one leaves no line."""
    manifest = ModelRepository(VERSIONS).manifest(version)
    for name in ("schema", "version", "parent_version", "files", "created", "fingerprint"):
        manifest.ClearField(name)
    return manifest


def candidate(version: int, folder: Path) -> Path:
    """One of the two real versions as a candidate, with a report."""
    if not folder.exists():
        shutil.copytree(VERSIONS / str(version), folder)
        (folder / "report").mkdir()
        (folder / "report" / "index.html").write_text(f"page of version {version}")
    return folder


def read_on(model: Path, stop: Event, results: "Queue[list[int] | str]") -> None:
    """Load whatever CURRENT names, over and over, as serving does; put the versions, or what went wrong."""
    loaded: list[int] = []
    try:
        while not stop.is_set():
            try:
                content = (model / "CURRENT").read_bytes()
            except FileNotFoundError:
                continue  # between two rounds, when the folder is laid anew
            version = read_version(model, parse_current(content))
            Session(version, provider=CPU, threads=1).check_known_answers(version.known_answers)
            loaded.append(version.manifest.version)
    except Exception as error:
        results.put(repr(error))
    else:
        results.put(loaded)


def look(repository: Path) -> int:
    """Check that what a killed writer left is whole; return the version that is current."""
    model = ModelRepository(repository / "digits")
    current = parse_current((model.directory / "CURRENT").read_bytes())
    assert current.version in (1, 2)
    for version in model.versions():  # whatever bears a number is whole, current or not
        manifest = model.manifest(version)
        assert {file.path for file in manifest.files} == FILES
        for file in manifest.files:
            assert sha256_of(model.path(version) / file.path) == file.sha256
    return current.version


def finish(repository: Path) -> None:
    """The next run completes what was begun, once, and leaves nothing over."""
    publication = publish(repository, candidate(2, repository.parent / "candidate-2"), description(2))
    model = ModelRepository(repository / "digits")
    assert publication.current_version == publication.version == 2
    assert model.versions() == [1, 2]
    assert [(entry.event, entry.version) for entry in model.history.entries()] == [("publish", 1), ("publish", 2)]
    assert model.current().generation == 2
    assert not list((model.directory / ".staging").glob("*"))


def main(folder: Path) -> None:
    """Kill before line 1, 2, 3 ... until the writer comes through."""
    processes = get_context("fork")
    first = folder / "first"
    publish(first, candidate(1, folder / "candidate-1"), description(1))
    candidate(2, folder / "candidate-2")
    kills = 0
    loads: list[int] = []
    while True:
        repository = folder / f"round-{kills}"
        shutil.copytree(first, repository)
        stop = processes.Event()
        results: Queue[list[int] | str] = processes.Queue()
        reader = processes.Process(target=read_on, args=(repository / "digits", stop, results), daemon=True)
        reader.start()
        was_killed = run_until_killed(
            lambda: publish(repository, folder / "candidate-2", description(2)),  # noqa: B023 - run at once
            kills + 1,
            WATCHED,
        )
        look(repository)
        finish(repository)
        stop.set()
        loaded = results.get(timeout=30)
        reader.join()
        assert isinstance(loaded, list), loaded
        loads += loaded
        shutil.rmtree(repository)
        if not was_killed:
            break
        kills += 1
    print(json.dumps({"kills": kills, "loads": len(loads), "loaded_versions": sorted(set(loads))}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
