"""Installed copies of the product, and servers that they start."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.programs import ROOT

UV = str(Path(sys.executable).with_name("uv"))


def uv(*arguments: str | Path) -> None:
    """Run uv, which must succeed."""
    done = subprocess.run([UV, *arguments], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def new_environment(folder: Path) -> Path:
    """An empty virtual environment's `bin`."""
    uv("venv", "--quiet", "--python", sys.executable, folder / "venv")
    return folder / "venv" / "bin"


@contextmanager
def installed_server(binaries: Path, repository: Path, folder: Path, **environment: str) -> Iterator[str]:
    """The address of a server that `digits-serve` starts in `folder`; its log is `folder`/log."""
    command: list[str | Path] = [binaries / "digits-serve", "serve", "--json", "--port", "0", "--provider", "cpu"]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [*command, "--repository", repository],
            cwd=folder,
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as server,
    ):
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert line, (folder / "log").read_text()
            yield json.loads(line)["address"]
            server.terminate()
            assert server.wait(60) == 0
        finally:
            server.kill()


MNIST = ROOT / "data" / "mnist"
TEST_FILES = (MNIST / "t10k-images-idx3-ubyte.gz", "--labels", MNIST / "t10k-labels-idx1-ubyte.gz")


def accuracy(binaries: Path, address: str, folder: Path, **environment: str) -> float:
    """The share of MNIST's test images that `digits-serve classify` finds classified correctly."""
    command: list[str | Path] = [binaries / "digits-serve", "classify", "--json", "--server", address, *TEST_FILES]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return float(json.loads(done.stdout)["accuracy"])
