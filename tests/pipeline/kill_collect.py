"""Kills `collect` with SIGKILL before every line that touches the disk, and looks at what it left.

`python -m tests.pipeline.kill_collect FOLDER`; a program of its own, since it forks, which a process with threads
should not. Prints what it did as JSON; fails with an assertion at the first thing that is wrong.
"""

import json
import shutil
import sys
from pathlib import Path

from pipeline.versions import collect as collect_module
from pipeline.versions import durable, history
from pipeline.versions import repository as repository_module
from pipeline.versions.collect import collect
from pipeline.versions.repository import ModelRepository
from tests.pipeline.killed import run_until_killed
from tests.pipeline.test_publish import publish_text

WATCHED = {str(module.__file__) for module in (collect_module, durable, history, repository_module, shutil)}


def look(model: ModelRepository) -> int:
    """Check that what a killed `collect` left is whole; return how many old versions it had not come to."""
    assert {3, 4} <= set(model.versions())
    assert all(model.is_whole(version) for version in model.versions())
    assert model.current().version == 4
    return len(model.versions()) - 2


def finish(model: ModelRepository) -> None:
    """The next one completes what was begun, and nothing is left over."""
    collect(model, keep=2)
    assert model.versions() == [3, 4]
    assert not list((model.directory / ".staging").glob("*"))
    assert model.next_version() == 5
    assert len(model.history.entries()) == 4


def main(folder: Path) -> None:
    """Kill before line 1, 2, 3 ... until it comes through."""
    first = folder / "first"
    for content in ("one", "two", "three", "four"):
        publish_text(first, content)
    kills, left, was_killed = 0, set(), True
    while was_killed:
        shutil.copytree(first, folder / "round")
        model = ModelRepository(folder / "round" / "digits")
        was_killed = run_until_killed(lambda: collect(model, keep=2), kills + 1, WATCHED)  # noqa: B023 - run at once
        left.add(look(model))
        finish(model)
        shutil.rmtree(folder / "round")
        kills += was_killed
    print(json.dumps({"kills": kills, "left": sorted(left)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
