"""The protos and their generated code."""

import re
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from google.api import http_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from protos.artifact.v1 import manifest_pb2
from protos.digits.v1 import digits_pb2
from tests.programs import ROOT

PROTOS = sorted(path.relative_to(ROOT) for path in (ROOT / "protos").rglob("*.proto"))


def test_the_generated_code_describes_the_protos(tmp_path: Path) -> None:
    """Compiled here, they say the same: else `make protos` was forgotten."""
    google = str(Path(http_pb2.__file__).parents[2])  # where google/api/annotations.proto lies
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        "-I.",
        f"-I{google}",
        "-o",
        tmp_path / "set",
        *PROTOS,
    ]
    subprocess.run(command, cwd=ROOT, check=True)
    compiled = FileDescriptorSet.FromString((tmp_path / "set").read_bytes())
    assert len(compiled.file) == len(PROTOS)
    for proto in compiled.file:
        described = FileDescriptorProto()
        import_module(proto.name.removesuffix(".proto").replace("/", ".") + "_pb2").DESCRIPTOR.CopyToProto(described)
        assert re.sub(r" *json_name: .*\n", "", str(proto)) == str(described)  # which the compiler fills in


def test_the_generated_code_loads_with_every_protobuf_that_is_promised() -> None:
    """A protobuf refuses the code of a newer protoc."""
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    lowest = next(need for need in needs if need.startswith("protobuf>=")).removeprefix("protobuf>=").split(",")[0]
    for path in PROTOS:
        found = re.search(r"Python Version: ([\d.]+)", path.with_name(f"{path.stem}_pb2.py").read_text())
        assert found
        assert [int(part) for part in found[1].split(".")] <= [int(part) for part in lowest.split(".")]


@pytest.mark.slow
def test_generating_anew_changes_nothing(tmp_path: Path) -> None:
    """By `make protos`, with its pinned compiler, in a copy; slow, as it may download the compiler."""
    shutil.copytree(ROOT / "protos", tmp_path / "protos", ignore=shutil.ignore_patterns("__pycache__", "*_pb2*"))
    shutil.copytree(ROOT / "serving" / "page", tmp_path / "serving" / "page")
    for name in ("Makefile", "requirements", "scripts"):
        (tmp_path / name).symlink_to(ROOT / name)
    command = ["make", "protos", f"BIN={Path(sys.executable).parent}", f"VENV={tmp_path / 'venv'}"]
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "installed").touch()
    subprocess.run(command, cwd=tmp_path, check=True, timeout=100)
    generated = list(tmp_path.glob("protos/**/*_pb2.py*"))
    assert len(generated) == 2 * len(PROTOS)
    for path in generated:
        assert path.read_text() == (ROOT / path.relative_to(tmp_path)).read_text()


@pytest.mark.parametrize("file", [digits_pb2.DESCRIPTOR, manifest_pb2.DESCRIPTOR], ids=lambda file: file.package)
def test_a_package_is_the_path_of_its_file(file: FileDescriptor) -> None:
    """AIP-191, below protos/."""
    assert file.name.removeprefix("protos/").rsplit("/", 1)[0].replace("/", ".") == file.package


@pytest.mark.parametrize("service", digits_pb2.DESCRIPTOR.services_by_name.values(), ids=lambda service: service.name)
def test_every_method_has_a_request_and_a_response_of_its_own(service: object) -> None:
    """So that each may grow alone."""
    for method in service.methods:  # type: ignore[attr-defined]
        assert method.input_type.name == f"{method.name}Request"
        assert method.output_type.name == f"{method.name}Response"
