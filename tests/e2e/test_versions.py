"""`python -m pipeline versions`, `promote` and `rollback`, with a server running."""

import json
import time
from pathlib import Path

from serving.client import DigitClient
from tests.programs import run_program, server_process
from tests.serving.conftest import Publisher


def test_a_rollback_reaches_a_running_server_within_a_second(tmp_path: Path) -> None:
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
            assert time.monotonic() - ended < 1
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
