"""Where a version came from: the code and the packages that made it."""

import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("torch", "onnx", "onnxscript", "onnx-ir", "onnxruntime-gpu", "onnxruntime", "numpy")


def code_revision() -> str:
    """The git revision of the code, with "+changes" where tracked files differ from it; "unknown" outside git."""
    revision = _git("rev-parse", "HEAD")
    if revision is None:
        return "unknown"
    return f"{revision}+changes" if _git("status", "--porcelain", "--untracked-files=no") else revision


def package_versions(names: Sequence[str] = PACKAGES) -> dict[str, str]:
    """The version of every installed package that has a say in the bytes of a model, or of others."""
    versions = {}
    for name in names:
        try:
            versions[name] = version(name)
        except ModuleNotFoundError:
            continue
    return versions


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
