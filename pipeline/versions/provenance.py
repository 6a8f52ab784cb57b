"""Where a version came from: the code and the packages that made it."""

import hashlib
import os
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ("models", "pipeline", "protos", "serving")  # serving too: a candidate is rehearsed on it
SUFFIXES = (".py", ".jinja")
REVISION = "PIPELINE_REVISION"

PACKAGES = ("torch", "onnx", "onnxscript", "onnx-ir", "onnxruntime-gpu", "onnxruntime", "numpy")


def code_revision() -> str:
    """The git revision of the code, with "+changes" where tracked files differ from it.

    Of an installed copy it is the package and its version, such as "digits 0.1.0"; "unknown" where there is neither.

    An image has no git: there the environment says it, as the image was told when it was built.
    """
    if told := os.environ.get(REVISION):
        return told
    if _git("ls-files", "--error-unmatch", "pipeline") is None:  # installed: a repository around it is another's
        return _installed_version()
    revision = _git("rev-parse", "HEAD") or "unknown"  # before the first commit
    return f"{revision}+changes" if _git("status", "--porcelain", "--untracked-files=no") else revision


def sources_sha256(root: Path = ROOT) -> str:
    """One digest of every source that has a say in a version, as the files lie there, committed or not."""
    digest = hashlib.sha256()
    for folder in SOURCES:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in SUFFIXES and path.is_file():
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                digest.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def package_versions(names: Sequence[str] = PACKAGES) -> dict[str, str]:
    """The version of every installed package that has a say in the bytes of a model, or of others."""
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except ModuleNotFoundError:
            continue
    return versions


def _installed_version() -> str:
    try:
        return f"digits {version('digits')}"
    except ModuleNotFoundError:
        return "unknown"


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 - no input from outside
            ["git", "-C", ROOT, *arguments],  # noqa: S607 - whichever git the person uses
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
