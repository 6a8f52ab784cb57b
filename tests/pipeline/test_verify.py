"""The proof: what is not the trained network, in every bit that matters, is refused."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from pipeline.data.dataset import Dataset
from pipeline.errors import VerificationError
from pipeline.export import export
from pipeline.proof.features import MAPS_TOLERANCE
from pipeline.verify import LOGITS_TOLERANCE, Verification, verify


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A trained network, exported."""
    return export(checkpoint, tmp_path_factory.mktemp("export") / "model.onnx", size=28).read_bytes()


@pytest.fixture(scope="module")
def exported_features(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Its feature maps, exported."""
    folder = tmp_path_factory.mktemp("export")
    export(checkpoint, folder / "model.onnx", size=28, features=folder / "features.onnx")
    return (folder / "features.onnx").read_bytes()


@pytest.fixture
def model(exported: bytes, tmp_path: Path) -> Path:
    """The exported file, for the test to tamper with."""
    path = tmp_path / "model.onnx"
    path.write_bytes(exported)
    return path


@pytest.fixture
def features(exported_features: bytes, model: Path) -> Path:
    """The exported file of the feature maps, beside that of the model, for the test to tamper with."""
    path = model.with_name("features.onnx")
    path.write_bytes(exported_features)
    return path


@pytest.fixture
def prove_both(
    model: Path, features: Path, checkpoint: Path, small_dataset: Dataset, tmp_path: Path
) -> Callable[[], Verification]:
    """Verify both files as they are by then."""
    known_answers = tmp_path / "known_answers.npz"
    return lambda: verify(model, checkpoint, small_dataset, known_answers=known_answers, features=features)


@pytest.fixture
def prove(model: Path, checkpoint: Path, small_dataset: Dataset, tmp_path: Path) -> Callable[[], Verification]:
    """Verify the file as it is by then."""
    return lambda: verify(model, checkpoint, small_dataset, known_answers=tmp_path / "known_answers.npz")


def tamper(model: Path, change: Callable[[onnx.ModelProto], object]) -> None:
    """Load the file, change it, write it."""
    graph = onnx.load(model)
    change(graph)
    model.write_bytes(graph.SerializeToString())


def change_weight(name: str, index: tuple[int, ...], by: float) -> Callable[[onnx.ModelProto], object]:
    """A change that adds `by` to one weight."""

    def change(graph: onnx.ModelProto) -> None:
        tensor = next(tensor for tensor in graph.graph.initializer if tensor.name.endswith(name))
        weights = numpy_helper.to_array(tensor).copy()
        weights[index] += by
        tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))

    return change


def test_an_honest_export_is_proved(prove: Callable[[], Verification]) -> None:
    """Every validation image and the extremes, on a provider that is really there, far within the bound."""
    verification = prove()
    assert verification.image_count == 630
    assert "CPUExecutionProvider" in verification.providers
    assert verification.distance.logits < LOGITS_TOLERANCE / 4
    assert (verification.opset, verification.ir_version) == (20, 10)


def test_answers_do_not_depend_on_the_batch(prove: Callable[[], Verification]) -> None:
    """The same bits alone and among a thousand."""
    assert prove().is_batch_invariant


def test_the_known_answers_are_pytorchs(prove: Callable[[], Verification]) -> None:
    """Images, logits and probabilities that whoever loads the model can replay."""
    with np.load(prove().known_answers, allow_pickle=False) as known:
        assert known["images"].shape == (64, 28, 28)
        assert known["images"].dtype == np.uint8
        assert known["logits"].shape == known["probabilities"].shape == (64, 10)
        assert np.allclose(known["probabilities"].sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "index", "by"),
    [
        ("readout", (100, 3), 0.01),
        ("convolutions.0.weight", (0, 0, 1, 1), 0.001),
        ("convolutions.1.weight", (7, 3, 2, 2), 0.001),
        ("mean", (), 0.0005),
        ("std", (), 0.0005),
    ],
    ids=["readout", "first filter", "last filter", "mean", "std"],
)
def test_one_tampered_weight_fails_it(
    model: Path, prove: Callable[[], Verification], name: str, index: tuple[int, ...], by: float
) -> None:
    """A single number, changed a little."""
    tamper(model, change_weight(name, index, by))
    with pytest.raises(VerificationError, match="not the network that was trained"):
        prove()


def test_a_weight_that_is_not_a_number_fails_it(model: Path, prove: Callable[[], Verification]) -> None:
    """NaN compares with nothing, and so passes nothing."""
    tamper(model, change_weight("readout", (100, 3), float("nan")))
    with pytest.raises(VerificationError):
        prove()


def rename_input(graph: onnx.ModelProto) -> None:
    """Call the input something else, everywhere."""
    graph.graph.input[0].name = "x"
    for node in graph.graph.node:
        node.input[:] = ["x" if name == "images" else name for name in node.input]


def fix_batch(graph: onnx.ModelProto) -> None:
    """Allow one batch size only."""
    graph.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


def drop_output(graph: onnx.ModelProto) -> None:
    """Leave out the probabilities."""
    del graph.graph.output[1]


def raise_opset(graph: onnx.ModelProto) -> None:
    """Ask for an opset that the contract does not promise."""
    graph.opset_import[0].version = 21


def add_domain(graph: onnx.ModelProto) -> None:
    """Ask for operators of somebody else."""
    graph.opset_import.append(helper.make_opsetid("com.example", 1))


def use_other_file(graph: onnx.ModelProto) -> None:
    """Keep a weight in another file."""
    tensor = graph.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


@pytest.mark.parametrize(
    "change", [rename_input, fix_batch, drop_output, raise_opset, add_domain, use_other_file], ids=lambda f: f.__name__
)
def test_a_file_outside_the_contract_fails_it(
    model: Path, prove: Callable[[], Verification], change: Callable[[onnx.ModelProto], object]
) -> None:
    """Names, shapes, opset and the one file are promises to every server."""
    tamper(model, change)
    with pytest.raises(VerificationError, match=r"model\.onnx: "):
        prove()


@pytest.mark.parametrize("content", [b"", b"no model"], ids=["empty", "text"])
def test_what_is_no_onnx_file_fails_it(model: Path, prove: Callable[[], Verification], content: bytes) -> None:
    """The message names the file."""
    model.write_bytes(content)
    with pytest.raises(VerificationError, match=r"model\.onnx: "):
        prove()


def test_a_missing_file_fails_it(model: Path, prove: Callable[[], Verification]) -> None:
    """It is the bytes on the disk that are proved."""
    model.unlink()
    with pytest.raises(VerificationError, match=r"model\.onnx: "):
        prove()


def test_a_network_that_died_in_training_is_no_version(
    small_dataset: Dataset, checkpoint: Path, tmp_path: Path
) -> None:
    """Logits of 0 for every image: the error says what to do, and nothing is divided by them."""
    content = torch.load(checkpoint, weights_only=True)
    content["state"] = {
        name: tensor if name in ("mean", "std", "temperature") else torch.zeros_like(tensor)
        for name, tensor in content["state"].items()
    }
    path = tmp_path / "dead.pt"
    torch.save(content, path)
    model = export(path, tmp_path / "model.onnx", size=28)
    with pytest.raises(VerificationError, match="try a lower learning_rate"):
        verify(model, path, small_dataset, known_answers=tmp_path / "known_answers.npz")


def test_honest_feature_maps_are_proved(
    prove_both: Callable[[], Verification], prove: Callable[[], Verification]
) -> None:
    """Far within the bound, and the finding says so; nothing is said where nobody asked."""
    verification = prove_both()
    assert verification.maps_distance is not None
    assert verification.maps_distance < MAPS_TOLERANCE / 4
    assert f"feature maps within {verification.maps_distance:.1e}" in verification.detail
    assert prove().maps_distance is None
    assert "feature maps" not in prove().detail


@pytest.mark.parametrize(
    ("name", "index", "by", "layer"),
    [
        ("convolutions.0.weight", (0, 0, 1, 1), 0.001, "convolution 1"),
        ("convolutions.1.weight", (7, 3, 2, 2), 0.001, "convolution 2"),
        ("mean", (), 0.0005, "convolution 1"),
        ("convolutions.0.weight", (0, 0, 1, 1), float("nan"), "convolution 1"),
    ],
    ids=["first filter", "last filter", "mean", "not a number"],
)
def test_one_tampered_weight_of_the_feature_maps_fails_it(
    features: Path, prove_both: Callable[[], Verification], name: str, index: tuple[int, ...], by: float, layer: str
) -> None:
    """The message names the file and the first layer that is another."""
    tamper(features, change_weight(name, index, by))
    with pytest.raises(VerificationError, match=rf"features\.onnx: .* the feature maps '{layer}' are"):
        prove_both()


def swap_outputs(graph: onnx.ModelProto) -> None:
    """Two layers in the other order."""
    first, second, *others = [
        onnx.ValueInfoProto.FromString(output.SerializeToString()) for output in graph.graph.output
    ]
    del graph.graph.output[:]
    graph.graph.output.extend([second, first, *others])


@pytest.mark.parametrize(
    "change", [rename_input, fix_batch, drop_output, swap_outputs, raise_opset], ids=lambda change: change.__name__
)
def test_feature_maps_outside_the_contract_fail_it(
    features: Path, prove_both: Callable[[], Verification], change: Callable[[onnx.ModelProto], object]
) -> None:
    """Every layer of the network under its name, in order, for the images that the model takes."""
    tamper(features, change)
    with pytest.raises(VerificationError, match=r"features\.onnx: "):
        prove_both()


def test_feature_maps_that_were_not_written_fail_it(features: Path, prove_both: Callable[[], Verification]) -> None:
    """A network that shows them is published with them."""
    features.unlink()
    with pytest.raises(VerificationError, match=r"features\.onnx: "):
        prove_both()
