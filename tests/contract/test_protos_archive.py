"""The archive of protos for callers in other languages, used without anything of the checkout."""

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from google.api import http_pb2

from scripts.protos_archive import pack
from serving.idx import read_images, read_labels
from tests.programs import ROOT, server_process
from tests.serving.conftest import MNIST, Publisher

NODE = """
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");
const [address, includeDir, pixels] = process.argv.slice(2);
const loaded = loader.loadSync("protos/digits/v1/digits.proto", {includeDirs: includeDir.split(":")});
const {DigitService} = grpc.loadPackageDefinition(loaded).digits.v1;
const client = new DigitService(address, grpc.credentials.createInsecure());
client.Classify({imageCount: 1, pixels: Buffer.from(pixels, "hex")}, (error, answer) => {
  if (error) throw error;
  console.log(JSON.stringify(answer.digits));
  client.close();
});
"""


@pytest.fixture
def include(tmp_path: Path) -> Path:
    """The unpacked archive."""
    pack(tmp_path / "protos.tar")
    with tarfile.open(tmp_path / "protos.tar") as archive:
        archive.extractall(tmp_path / "include", filter="data")
    return tmp_path / "include"


def test_the_same_protos_give_the_same_archive(tmp_path: Path) -> None:
    """Byte for byte: no times, no owners."""
    pack(tmp_path / "first.tar")
    pack(tmp_path / "second.tar")
    assert (tmp_path / "first.tar").read_bytes() == (tmp_path / "second.tar").read_bytes()


@pytest.mark.parametrize("language", ["python", "java", "cpp"])
def test_protoc_needs_nothing_but_the_archive(include: Path, tmp_path: Path, language: str) -> None:
    """Code for every proto in it."""
    protoc = [sys.executable, "-I", "-m", "grpc_tools.protoc"]
    if language != "python":
        if (found := shutil.which("protoc")) is None:
            pytest.skip("there is no protoc here (Debian: protobuf-compiler), and grpcio-tools writes Python alone")
        protoc = [found]
    (out := tmp_path / "out").mkdir()
    protos = sorted(str(path.relative_to(include)) for path in include.rglob("*.proto"))
    subprocess.run([*protoc, f"-I{include}", f"--{language}_out={out}", *protos], cwd=tmp_path, check=True)
    place = out / "digits" / "v1" if language == "java" else out / "protos" / "digits" / "v1"
    assert any(path.is_file() for path in place.iterdir())


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("npm") is None, reason="there is no npm here")
@pytest.mark.parametrize("source", ["archive", "checkout"])
def test_node_calls_the_server(include: Path, tmp_path: Path, source: str) -> None:
    """With proto-loader, from the archive and by the two include paths of a checkout."""
    packages = ["@grpc/grpc-js", "@grpc/proto-loader"]
    command: list[str | Path] = ["npm", "install", "--silent", "--prefix", tmp_path, *packages]
    subprocess.run(command, check=True, timeout=200)
    (tmp_path / "call.js").write_text(NODE)
    google = Path(http_pb2.__file__).parents[2]
    folders = str(include) if source == "archive" else f"{ROOT}:{google}"
    image = read_images(MNIST / "t10k-images-idx3-ubyte.gz")[0]
    publisher = Publisher(tmp_path / "repository")
    publisher.publish(1)
    with server_process(publisher.root, tmp_path / "log", "--provider", "cpu") as server:
        call: list[str | Path] = ["node", tmp_path / "call.js", server.address, folders, image.tobytes().hex()]
        done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [read_labels(MNIST / "t10k-labels-idx1-ubyte.gz")[0]]
