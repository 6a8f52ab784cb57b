"""The ONNX file: one file, the contract's signature, nothing of this machine in it, the same bytes every time."""

from pathlib import Path

import onnx
import pytest

from pipeline.export import OPSET, export


@pytest.fixture(scope="module")
def model(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained network, exported."""
    return export(checkpoint, tmp_path_factory.mktemp("export") / "model.onnx", size=28)


def test_it_is_one_file(model: Path) -> None:
    """No weights beside it."""
    assert list(model.parent.iterdir()) == [model]


def test_opset_and_ir_are_those_that_servers_load(model: Path) -> None:
    """The exporter's and onnx's own defaults are newer than what onnxruntime takes."""
    graph = onnx.load(model)
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", OPSET)]
    assert graph.ir_version == 10


def test_the_same_weights_give_the_same_bytes(model: Path, checkpoint: Path, tmp_path: Path) -> None:
    """So that publishing the same model twice is seen."""
    again = export(checkpoint, tmp_path / "again.onnx", size=28)
    assert again.read_bytes() == model.read_bytes()


def test_it_holds_no_paths_and_no_stack_traces(model: Path) -> None:
    """What the exporter notes for debugging would differ in every checkout, and tell of the machine."""
    content = model.read_bytes()
    assert str(Path.cwd()).encode() not in content
    assert b".py" not in content
    graph = onnx.load(model).graph
    assert not any(node.metadata_props for node in graph.node)


def test_pooling_is_two_nodes(model: Path) -> None:
    """The lab's roll-and-index pooling would be dozens, and several times slower."""
    operators = [node.op_type for node in onnx.load(model).graph.node]
    assert operators.count("Conv") == 4
    assert len(operators) <= 14


def test_average_pooling_is_a_convolution_of_each_channel(model: Path) -> None:
    """onnxruntime's AveragePool takes longer than the network's own convolutions."""
    graph = onnx.load(model).graph
    weights = {weight.name: onnx.numpy_helper.to_array(weight) for weight in graph.initializer}
    pooling = [node for node in graph.node if node.op_type == "Conv" and (weights[node.input[1]] == 0.25).all()]
    assert [weights[node.input[1]].shape for node in pooling] == [(4, 1, 2, 2), (8, 1, 2, 2)]
    assert not any(node.op_type == "AveragePool" for node in graph.node)
