"""The commands of the handbook are those that the smoke test runs."""

import re

import pytest

from tests.programs import ROOT

HANDBOOK = (ROOT / "docs" / "operations.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"^```\n(.*?)^```", HANDBOOK, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if line
]

FOR_THE_TEST = (
    ("$COMPOSE", "docker compose"),
    ("{before}", "2"),
    ('"$FOLDER/', ""),
    ('"', ""),
    (" --no-build --pull never", ""),
    (" --force-recreate", ""),
    (" --quiet", ""),
)
"""What the smoke test says otherwise: nothing can be pulled where it runs, and nothing has changed since the build."""


def run_by_the_smoke_test() -> str:
    """Its programs, in the handbook's words."""
    text = "\n".join((ROOT / "tests" / "compose" / name).read_text() for name in ("smoke.sh", "smoke.py", "stack.py"))
    for said, meant in FOR_THE_TEST:
        text = text.replace(said, meant)
    return text


@pytest.mark.parametrize("command", sorted(set(COMMANDS)))
def test_every_command_is_run_by_the_smoke_test(command: str) -> None:
    """Else nobody knows whether it works."""
    assert re.search(rf"{re.escape(command.removesuffix(' --build'))}($|[\n )])", run_by_the_smoke_test())


def test_the_handbook_has_commands() -> None:
    """Each of its parts has some."""
    assert len(COMMANDS) > 12
