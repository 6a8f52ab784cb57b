"""Labels and names that hold terminal escapes: no command writes them to a terminal as they are."""

import json
from pathlib import Path

import pytest

from pipeline.versions.history import to_json
from tests.programs import run_program, server_process
from tests.serving.conftest import MNIST, Publisher

EVIL = "e\x1b]0;title\x07\x1b[2J\r\n\x9b1m\x85\u202e\u2066\x7f\x08"
SHOWN = r"e\x1b]0;title\x07\x1b[2J\r\n\x9b1m\x85\u202e\u2066\x7f\x08"


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    """Version 1, and version 2 with escapes in every text of its manifest that a command shows."""
    publisher = Publisher(tmp_path / "repository")
    for version in (1, 2):
        publisher.publish(version)
    manifest = publisher.model.manifest(2)
    manifest.labels[:] = [f"{digit}{EVIL}" for digit in range(10)]
    manifest.config.fields["name"].string_value = EVIL
    manifest.device = manifest.code_revision = manifest.data.name = manifest.data.source = EVIL
    manifest.verdicts.add(gate=EVIL, detail=EVIL)
    manifest.packages[EVIL] = EVIL
    (publisher.model.path(2) / "manifest.json").write_bytes(to_json(manifest))
    publisher.point_at(2)
    return publisher


def assert_is_harmless(text: str) -> None:
    """Nothing but printable characters and line feeds."""
    assert [line for line in text.split("\n") if not line.isprintable()] == []


@pytest.mark.parametrize("command", [["show"], ["show", "--card"], ["versions"], ["diff", "1", "2"]], ids=" ".join)
def test_a_command_escapes_what_a_manifest_says(command: list[str], publisher: Publisher) -> None:
    """It shows which characters there are; as JSON they are JSON's escapes."""
    done = run_program("pipeline", *command, "--repository", publisher.root, COLUMNS="1000")
    assert done.returncode == 0, done.stderr
    assert_is_harmless(done.stdout)
    assert r"\x1b]" in done.stdout.replace(r"\]", "]").replace("\\\\", "\\")
    if "--card" not in command:
        assert SHOWN in done.stdout
        as_json = run_program("pipeline", *command, "--repository", publisher.root, "--json").stdout
        assert as_json.isascii()
        assert json.dumps(EVIL)[1:-1] in as_json


def test_classify_escapes_what_a_server_says(publisher: Publisher, tmp_path: Path) -> None:
    """The labels of its model."""
    with server_process(publisher.root, tmp_path / "log", "--provider", "cpu") as server:
        sent = (MNIST / "t10k-images-idx3-ubyte.gz", "--server", server.address)
        done = run_program("serving", "classify", *sent)
        lines = run_program("serving", "classify", *sent, "--json").stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert_is_harmless(done.stdout)
    assert f": 7{SHOWN} (" in done.stdout
    assert json.loads(lines[0])["label"] == f"7{EVIL}"


def test_an_error_escapes_what_it_quotes(tmp_path: Path) -> None:
    """A folder's name, in one line, by either program."""
    folder = tmp_path / EVIL.replace("/", "")
    for done in (
        run_program("pipeline", "show", "--repository", folder),
        run_program("pipeline", "run", "--no-prefect", "--dataset", folder, "--repository", tmp_path),
        run_program("serving", "classify", folder, "--server", "127.0.0.1:1"),
        run_program("serving", "classify", folder, "--server", f"{EVIL}:1"),
        run_program("serving", "serve", "--repository", tmp_path, SERVING_LOG_LEVEL=EVIL),
    ):
        assert done.returncode
        assert_is_harmless(done.stderr)
        assert len(done.stderr.strip().split("\n")) == 1, done.stderr
