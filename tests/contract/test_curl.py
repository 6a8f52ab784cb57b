"""The examples with curl, typed as they stand in the docs, at a server and at a door."""

import base64
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from serving.idx import read_images, read_labels
from tests.programs import ROOT, server_process
from tests.serving.conftest import MNIST, Publisher
from tests.serving.doors import door_process

PAGES = (ROOT / "README.md", ROOT / "docs" / "transports.md", ROOT / "docs" / "page.md")
EXAMPLES = [line for page in PAGES for line in re.findall(r"^curl .*$", page.read_text(), re.MULTILINE)]
NUMBER = 0

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where somebody types: a photograph of a digit lies there, dark ink on light paper."""
    folder = tmp_path_factory.mktemp("typed")
    image = Image.fromarray(255 - read_images(MNIST / "t10k-images-idx3-ubyte.gz")[NUMBER])
    image.resize((560, 560), Image.Resampling.BICUBIC).save(folder / "my-photo.jpg")
    return folder


@pytest.fixture(scope="module", params=["server", "door"])
def address(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    """Of a service that has a model."""
    publisher = Publisher(folder / f"{request.param}-repository")
    publisher.publish(1)
    transport = "envoy" if request.param == "server" else "grpcio"
    options = ("--provider", "cpu", "--transport", transport)
    with server_process(publisher.root, folder / "server.log", *options) as server:
        if request.param == "server":
            yield server.address
            return
        with door_process([server.address], folder / "door.log") as door:
            until_ready = f"curl --retry 50 --retry-delay 1 --retry-all-errors --fail {door.address}/healthz"
            subprocess.run(until_ready.split(), check=True, capture_output=True, timeout=60)
            yield door.address


@pytest.mark.parametrize("example", sorted(set(EXAMPLES)))
def test_an_example_works_as_it_is_typed(example: str, address: str, folder: Path) -> None:
    """Only the address is another; pixels that are too long for a page are put in."""
    pixels = base64.b64encode(read_images(MNIST / "t10k-images-idx3-ubyte.gz")[NUMBER].tobytes()).decode()
    typed = re.sub(r"(127\.0\.0\.1|localhost):\d+", address, example).replace("…", pixels)
    done = subprocess.run(
        ["bash", "-c", f"{typed} --silent --fail-with-body"],  # noqa: S607
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if "classify" in example:
        assert json.loads(done.stdout)["digits"] == [int(read_labels(MNIST / "t10k-labels-idx1-ubyte.gz")[NUMBER])]


def test_there_are_examples() -> None:
    """Of each kind."""
    for kind in ("model", "classify", "healthz"):
        assert any(kind in example for example in EXAMPLES)
