"""The docs: what they list is what is there."""

import re
import subprocess
from pathlib import Path

import pytest

from serving.errors import STATUSES
from tests.programs import ROOT, server_process
from tests.serving.conftest import Publisher

README = (ROOT / "README.md").read_text()


def listed() -> list[str]:
    """The files in the README's table."""
    table = README.split("## Files, in reading order")[1].split("##")[0]
    return re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)


def tracked() -> set[str]:
    """The source files under version control, or about to be."""
    command = [
        "git",
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "models",
        "pipeline",
        "serving",
        "protos",
        "scripts",
        "deploy",
    ]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return {name for name in names if "_pb2" not in name and not name.endswith(("__init__.py", "py.typed"))}


def test_the_readme_lists_every_source_file_once() -> None:
    """A new file gets a line, a removed one loses it."""
    assert sorted(listed()) == sorted(tracked())


def test_every_make_target_that_is_named_exists() -> None:
    """In README and CONTRIBUTING."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = README + (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE))
    assert named
    assert named <= targets


def test_no_page_has_a_gap_or_the_noise_of_a_program() -> None:
    """A figure that was to be put in later, a traceback in a table."""
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        found = re.findall(r"(?<![$\w/]){[a-z_]+}(?!`)|Traceback|TENTHOUSAND|TODO|TBD", page.read_text())
        assert not found, f"{page.name}: {found}"


@pytest.mark.parametrize(
    "page", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.name
)
def test_every_link_leads_somewhere(page: Path) -> None:
    """Relative links name files that are there."""
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_readmes_python_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Typed as it stands, but for the port."""
    code = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code) == 1
    publisher = Publisher(tmp_path / "repository")
    publisher.publish(1)
    with server_process(publisher.root, tmp_path / "log", "--provider", "cpu") as server:
        exec(code[0].replace("localhost:50051", server.address), {})  # noqa: S102 - our own text
    assert "CPUExecutionProvider" in capsys.readouterr().out


def test_every_error_is_documented() -> None:
    """docs/errors.md has a row for each, with its reason."""
    page = (ROOT / "docs" / "errors.md").read_text()
    for error, status in STATUSES.items():
        assert re.search(rf"^\| `{error.__name__}` \| [A-Z_]+ \| {status.reason} \|", page, re.MULTILINE)
