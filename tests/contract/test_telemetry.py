"""Nobody is told what people do with their own service."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import ROOT

RUN = """
from pathlib import Path
import {module}
import onnxruntime
model = Path("tests/serving/versions/1/model.onnx").read_bytes()
onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
"""


@pytest.mark.parametrize("module", ["serving.session", "pipeline.verify"])
def test_onnxruntime_keeps_no_diary(module: str, tmp_path: Path) -> None:
    """Its telemetry, on by default in its wheels, would keep an identifier and a database below the home folder."""
    told_not_to = ("CI", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS")
    environment = {name: value for name, value in os.environ.items() if name not in told_not_to}
    program = [sys.executable, "-c", RUN.format(module=module)]
    subprocess.run(program, cwd=ROOT, env=environment | {"HOME": str(tmp_path)}, check=True, timeout=60)
    assert not list(tmp_path.rglob("*onnxruntime*"))
