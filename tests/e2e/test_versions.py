"""`python -m pipeline versions`, `show`, `diff`, `gc`, `promote` and `rollback`, as a person types them."""

import json
import time
from pathlib import Path

import numpy as np
import pytest

from serving.client import DigitClient
from tests.programs import run_program, server_process
from tests.serving.conftest import Publisher


def test_a_rollback_reaches_a_running_server(tmp_path: Path) -> None:
    """From version 2 back to 1, with the server's own settings."""
    publisher = Publisher(tmp_path / "repository")
    for version in (1, 2):
        publisher.publish(version)
    with (
        server_process(publisher.root, tmp_path / "log", "--provider", "cpu") as server,
        DigitClient(server.address) as client,
    ):
        assert client.model().version == 2
        done = run_program("pipeline", "rollback", "--repository", publisher.root)
        ended = time.monotonic()
        assert done.stdout == "version 1 is current (before: 2)\n"
        while client.model().version != 1:
            assert time.monotonic() - ended < 60
            time.sleep(0.02)


def test_versions_are_listed(tmp_path: Path) -> None:
    """As a table for a person and as JSON for a script."""
    publisher = Publisher(tmp_path / "repository")
    for version in (1, 2):
        publisher.publish(version)
    shown = run_program("pipeline", "versions", "--repository", publisher.root, COLUMNS="120")
    assert "current" in shown.stdout
    rows = json.loads(run_program("pipeline", "versions", "--repository", publisher.root, "--json").stdout)
    assert [(row["version"], row["is_current"]) for row in rows] == [(1, False), (2, True)]


def test_a_version_that_is_not_there_is_exit_code_1_in_one_line(tmp_path: Path) -> None:
    """And names those that are."""
    publisher = Publisher(tmp_path / "repository")
    publisher.publish(1)
    done = run_program("pipeline", "promote", "7", "--repository", publisher.root)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "has no version 7; expected one of 1" in done.stderr


def test_show_tells_all_of_a_version(tmp_path: Path) -> None:
    """For a person what the manifest says, for a script the manifest; without a number the current one."""
    publisher = Publisher(tmp_path / "repository")
    for version in (1, 2):
        publisher.publish(version)
    manifest = publisher.model.manifest(2)
    shown = run_program("pipeline", "show", "--repository", publisher.root, COLUMNS="160")
    assert shown.returncode == 0, shown.stderr
    for word in ("version 2", "current", f"{100 * manifest.evaluation.accuracy:.2f} %", manifest.files[0].sha256):
        assert word in shown.stdout
    told = json.loads(run_program("pipeline", "show", "1", "--repository", publisher.root, "--json").stdout)
    assert told == json.loads((publisher.model.path(1) / "manifest.json").read_text())
    card = run_program("pipeline", "show", "1", "--card", "--repository", publisher.root)
    assert card.stdout.startswith("---\nlibrary_name:")


def test_diff_tells_only_what_differs(tmp_path: Path) -> None:
    """The seed and what came of it, not the rest of the config; a version beside itself differs in nothing."""
    publisher = Publisher(tmp_path / "repository")
    for version in (1, 2):
        publisher.publish(version)
    command = ("pipeline", "diff", "1", "2", "--repository", publisher.root)
    told = json.loads(run_program(*command, "--json").stdout)
    assert told["config.training.seed"] == [0, 1]
    accuracies = [publisher.model.manifest(version).evaluation.accuracy for version in (1, 2)]
    assert told["test.accuracy"] == accuracies
    assert not {name for name in told if name.startswith(("config.network", "data"))}
    assert "config.training.seed" in run_program(*command, COLUMNS="120").stdout
    alike = run_program("pipeline", "diff", "1", "1", "--repository", publisher.root)
    assert alike.stdout == "versions 1 and 1 are alike in config, data, quality and code\n"


def test_gc_says_what_it_removed_and_a_server_goes_on(tmp_path: Path) -> None:
    """What is loaded by its number stays loaded, and the current one is never in question."""
    publisher = Publisher(tmp_path / "repository")
    publisher.publish(1)
    for version in (4, 5, 6):
        publisher.publish_copy(version, of=2)
    arguments = ("--provider", "cpu", "--versions", "current,1")
    with (
        server_process(publisher.root, tmp_path / "log", *arguments) as server,
        DigitClient(server.address) as client,
    ):
        command = ("pipeline", "gc", "--keep", "1", "--repository", publisher.root)
        tried = run_program(*command, "--dry-run")
        assert tried.stdout.startswith("would remove 1, 4 (")
        assert publisher.model.versions() == [1, 4, 5, 6]
        done = json.loads(run_program(*command, "--protect", "4", "--json").stdout)
        assert (done["removed"], done["kept"], done["dry_run"]) == ([1], [4, 5, 6], False)
        assert done["freed_bytes"] > 0
        time.sleep(0.6)  # the server looks four times a second
        assert client.classify(np.zeros((1, 28, 28), np.uint8), model_version=1).model_version == 1
        assert client.model().version == 6
    assert run_program(*command, "--protect", "4").stdout == "nothing to remove; kept: 4, 5, 6\n"


WRONG = {
    "no such version to show": (["show", "9"], 1, "has no version 9; there are: 1"),
    "no such version to compare": (["diff", "1", "9"], 1, "has no version 9; there are: 1"),
    "nothing kept": (["gc", "--keep", "0"], 2, "expected a number from 1 upwards, got '0'"),
    "no such version to protect": (["gc", "--protect", "7"], 1, "has no version 7 to protect"),
    "another repository": (["gc", "--model", "letters"], 1, "is it the right repository?"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_not_there_is_told(tmp_path: Path, what: str) -> None:
    """In one line, with what would have been right."""
    arguments, code, message = WRONG[what]
    publisher = Publisher(tmp_path / "repository")
    publisher.publish(1)
    done = run_program("pipeline", *arguments, "--repository", publisher.root)
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    assert publisher.model.versions() == [1]


@pytest.mark.parametrize("arguments", [["show", "2"], ["diff", "1", "2"], ["promote", "2"]], ids=" ".join)
def test_a_damaged_version_is_named_and_the_others_are_shown(tmp_path: Path, arguments: list[str]) -> None:
    """In one line."""
    publisher = Publisher(tmp_path / "repository")
    publisher.publish(1)
    publisher.model.path(2).mkdir()
    (publisher.model.path(2) / "manifest.json").write_text('{"version": 2,')
    done = run_program("pipeline", *arguments, "--repository", publisher.root)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "2/manifest.json: cannot be read: " in done.stderr
    assert run_program("pipeline", "show", "1", "--repository", publisher.root).returncode == 0
    listed = run_program("pipeline", "versions", "--repository", publisher.root, COLUMNS="200").stdout
    assert "manifest.json: cannot" in listed
