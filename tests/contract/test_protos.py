"""The protos and their generated code."""

import subprocess
import sys
from pathlib import Path

import pytest
from google.api import http_pb2
from google.protobuf.descriptor import FileDescriptor

from protos.artifact.v1 import manifest_pb2
from protos.digits.v1 import digits_pb2
from tests.programs import ROOT

PROTOS = sorted(path.relative_to(ROOT) for path in (ROOT / "protos").rglob("*.proto"))


def test_the_generated_code_is_that_of_the_protos(tmp_path: Path) -> None:
    """Regenerated with the pinned compiler, not a byte differs: else `make protos` was forgotten."""
    google = str(Path(http_pb2.__file__).parents[2])  # where google/api/annotations.proto lies
    include = ("-I.", f"-I{google}")
    command = [sys.executable, "-m", "grpc_tools.protoc", *include, f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    subprocess.run([*command, *map(str, PROTOS)], cwd=ROOT, check=True)
    generated = [path for path in tmp_path.rglob("*") if path.is_file()]
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
