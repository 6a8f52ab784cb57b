"""An ONNX file as it lies on the disk, and what stands in its signature."""

from pathlib import Path

import onnx

from pipeline.errors import VerificationError
from pipeline.export import OPSET


def read_onnx(path: Path) -> onnx.ModelProto:
    """Demand one whole valid file of our opset; raises VerificationError."""
    try:
        onnx.checker.check_model(path, full_check=True)
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # the checker, protobuf and the file system share no base class
        raise VerificationError(f"{path}: is no valid ONNX file: {str(error).strip().splitlines()[0]}") from error
    if any(tensor.external_data for tensor in model.graph.initializer):
        raise VerificationError(f"{path}: keeps weights in another file; expected one file")
    opsets = [(opset.domain, opset.version) for opset in model.opset_import]
    if opsets != [("", OPSET)]:
        raise VerificationError(f"{path}: uses opsets {opsets}; expected only version {OPSET} of the default domain")
    return model


def described(*values: onnx.ValueInfoProto) -> list[tuple[str, str, list[str | int]]]:
    """Name, element type and shape of inputs or outputs, such as ("images", "UINT8", ["batch", 28, 28])."""
    return [_describe(value) for value in values]


def _describe(value: onnx.ValueInfoProto) -> tuple[str, str, list[str | int]]:
    tensor = value.type.tensor_type
    shape = [dimension.dim_param or dimension.dim_value for dimension in tensor.shape.dim]
    return value.name, onnx.TensorProto.DataType.Name(tensor.elem_type), shape
