"""The wheel and the source distribution: what they hold, and the two console commands of an installed copy."""

import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.contract.installed import MNIST, accuracy, installed_server, new_environment, uv
from tests.programs import ROOT
from tests.serving.conftest import Publisher

PACKAGES = ("models", "pipeline", "serving", "protos")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution; uv has the build backend, so that no network is needed."""
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--offline", "--sdist", "--out-dir", folder, ROOT)
    uv("build", "--offline", "--wheel", "--out-dir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    """The wheel."""
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of a new environment with the wheel; its other packages are those of this one."""
    binaries = new_environment(tmp_path_factory.mktemp("installed"))
    uv("pip", "install", "--offline", "--no-deps", "--python", binaries / "python", wheel)
    site = next(binaries.parent.glob("lib/python*/site-packages"))
    (site / "others.pth").write_text(f"{next(Path(sys.prefix).glob('lib/python*/site-packages'))}\n")
    return binaries


def test_the_wheel_has_every_file_of_the_four_packages_and_no_other(wheel: Path) -> None:
    """Templates, presets, pages and protos too; not the Dockerfiles, tests, scripts, docs or data."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *PACKAGES]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    expected = {name for name in listed if not name.endswith("Dockerfile") and (ROOT / name).is_file()}
    assert {f"{package}/py.typed" for package in PACKAGES} < expected
    assert {name for name in _members(wheel) if ".dist-info/" not in name} == expected


def test_a_wheel_from_the_source_distribution_has_the_same_files(built: Path, wheel: Path, tmp_path: Path) -> None:
    """So an installer that takes the source distribution installs the same."""
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    uv("build", "--offline", "--wheel", "--out-dir", tmp_path, next(tmp_path.glob("digits-*")))
    assert _members(next(tmp_path.glob("*.whl"))) == _members(wheel)


def test_the_source_distribution_has_the_packages_and_what_describes_them(built: Path) -> None:
    """Not the tests, the scripts, the docs or 11 MB of data."""
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        top = {Path(name).parts[1] for name in archive.getnames() if len(Path(name).parts) > 1}
    about = {"LICENSE", "README.md", "PKG-INFO", "pyproject.toml", "pyproject.toml.orig"}
    assert set(PACKAGES) < top <= about | set(PACKAGES)


def test_an_editable_copy_runs_the_checkout(tmp_path: Path) -> None:
    """As `pip install -e .` makes it."""
    python = new_environment(tmp_path) / "python"
    uv("pip", "install", "--offline", "--no-deps", "--python", python, "--editable", ROOT)
    command: list[str | Path] = [python, "-c", "import models, pipeline, serving, protos; print(serving.__file__)"]
    found = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()
    assert Path(found) == ROOT / "serving" / "__init__.py"


@pytest.mark.parametrize(
    ("program", "usage"),
    [
        (("digits",), "digits"),
        (("digits-serve",), "digits-serve"),
        (("python", "-m", "pipeline"), "python -m pipeline"),
        (("python", "-m", "serving"), "python -m serving"),
    ],
    ids=lambda value: value if isinstance(value, str) else "started as",
)
def test_the_usage_line_names_the_program_as_it_was_started(
    installed: Path, tmp_path: Path, program: tuple[str, ...], usage: str
) -> None:
    """In a folder that has nothing of the checkout."""
    command: list[str | Path] = [installed / program[0], *program[1:], "--help"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.startswith(f"usage: {usage} [-h]")


@pytest.mark.parametrize("program", ["digits", "digits-serve"])
def test_wrong_usage_ends_a_console_command_with_2(installed: Path, tmp_path: Path, program: str) -> None:
    """As it ends `python -m`."""
    done = subprocess.run([installed / program, "no-such-command"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"{program}: error:" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_an_installed_copy_trains_publishes_serves_and_classifies(installed: Path, tmp_path: Path) -> None:
    """In an empty folder inside another git repository, whose revision is not the code's."""
    command: list[str | Path] = ["git", "init", "--quiet", tmp_path]
    subprocess.run(command, check=True)
    command = [installed / "digits", "run", "--no-prefect", "--dataset", MNIST]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=500)
    manifest = json.loads((tmp_path / "model_repository" / "digits" / "1" / "manifest.json").read_text())
    assert manifest["codeRevision" if "codeRevision" in manifest else "code_revision"] == "digits 0.1.0"
    with installed_server(installed, tmp_path / "model_repository", tmp_path) as address:
        assert accuracy(installed, address, tmp_path) > 0.97


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("resolution", ["lowest-direct", "highest"])
def test_a_call_works_with_the_versions_that_are_promised(wheel: Path, tmp_path: Path, resolution: str) -> None:
    """The lowest and the highest of each package, from a registry, with warnings as errors where they start."""
    binaries = new_environment(tmp_path)
    python = ("--python", binaries / "python")
    uv("pip", "install", *python, "--resolution", resolution, "--requirements", ROOT / "pyproject.toml")
    uv("pip", "install", *python, "--offline", "--no-deps", wheel)
    publisher = Publisher(tmp_path / "repository")
    publisher.publish(1)
    strict = {"PYTHONWARNINGS": "error"}
    with installed_server(binaries, publisher.root, tmp_path, **strict) as address:
        assert accuracy(binaries, address, tmp_path, **strict) > 0.97
    assert "Warning" not in (tmp_path / "log").read_text()


def _members(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}
