"""The ONNX file: one file, the contract's signature, nothing of this machine in it, the same bytes every time."""

from pathlib import Path

import onnx
import pytest
import torch

from pipeline.config import Network
from pipeline.export import OPSET, export
from pipeline.proof.file import described
from pipeline.training.checkpoint import build_classifier, save_checkpoint


@pytest.fixture(scope="module")
def model(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained network, exported."""
    return export(checkpoint, tmp_path_factory.mktemp("export") / "model.onnx", size=28)


@pytest.fixture(scope="module")
def features(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its feature maps, exported, and model.onnx beside them."""
    folder = tmp_path_factory.mktemp("export")
    export(checkpoint, folder / "model.onnx", size=28, features=folder / "features.onnx")
    return folder / "features.onnx"


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


def test_the_feature_maps_are_a_file_beside_the_model(features: Path, model: Path) -> None:
    """The model's own bytes stay what they are: nothing is asked of it that an answer does not need."""
    assert {path.name for path in features.parent.iterdir()} == {"features.onnx", "model.onnx"}
    assert features.with_name("model.onnx").read_bytes() == model.read_bytes()


def test_every_layer_is_an_output_under_its_name(features: Path) -> None:
    """In order, for the same images as the model takes, in batches of any size."""
    graph = onnx.load(features).graph
    assert described(*graph.input, *graph.output) == [
        ("images", "UINT8", ["batch", 28, 28]),
        ("convolution 1", "FLOAT", ["batch", 4, 28, 28]),
        ("pooling 1", "FLOAT", ["batch", 4, 14, 14]),
        ("convolution 2", "FLOAT", ["batch", 8, 14, 14]),
        ("pooling 2", "FLOAT", ["batch", 8, 7, 7]),
    ]


def test_the_feature_maps_are_computed_as_the_model_computes_them(features: Path, model: Path) -> None:
    """The same operators up to the readout, average pooling as a convolution among them; the readout is left out."""
    ours, theirs = ([node.op_type for node in onnx.load(path).graph.node] for path in (features, model))
    assert ours == theirs[: len(ours)]
    assert ours.count("Conv") == 4
    assert features.stat().st_size < model.stat().st_size / 4


def test_the_file_of_the_feature_maps_is_as_clean(features: Path, checkpoint: Path, tmp_path: Path) -> None:
    """The same bytes every time, the opset of the model, no path and no stack trace."""
    export(checkpoint, tmp_path / "model.onnx", size=28, features=tmp_path / "features.onnx")
    content = (tmp_path / "features.onnx").read_bytes()
    assert content == features.read_bytes()
    assert str(Path.cwd()).encode() not in content
    assert b".py" not in content
    graph = onnx.load(features)
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", OPSET)]
    assert graph.ir_version == 10
    assert not any(node.metadata_props for node in graph.graph.node)


def test_a_network_that_shows_none_has_no_such_file(tmp_path: Path) -> None:
    """The multilayer perceptron for one."""
    network = Network(architecture="multilayer-perceptron", features=(1, 4), sizes=(28,), classes=10)
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "checkpoint.pt", build_classifier(network, mean=0.1, std=0.3), network)
    export(tmp_path / "checkpoint.pt", tmp_path / "model.onnx", size=28, features=tmp_path / "features.onnx")
    assert not (tmp_path / "features.onnx").exists()
