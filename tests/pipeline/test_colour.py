"""A network of colour images is exported, proved and described as one of grey images is."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from pipeline.check import DataSummary, check
from pipeline.config import Network
from pipeline.data.dataset import Dataset
from pipeline.data.split import load_split
from pipeline.errors import VerificationError
from pipeline.export import export
from pipeline.fetch import fetch
from pipeline.training.checkpoint import build_classifier, load_checkpoint, save_checkpoint
from pipeline.verify import verify
from scripts.make_letters import make_letters

SIZE = 8
NETWORK = Network(
    taps=(1, 1), features=(3, 2, 4), sizes=(SIZE, 4, 2), classes=5, pooling="max", initialisation="scaled"
)


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Letters in colour, 8 x 8 pixels."""
    folder = tmp_path_factory.mktemp("letters")
    made = make_letters(folder / "letters", count=40, size=SIZE)
    return fetch(made, validation_fraction=0.3, test_fraction=0.3, download=False, cache=folder / "cache")


@pytest.fixture(scope="module")
def summary(letters: Dataset) -> DataSummary:
    """What the check says of them."""
    return check(letters, classes=5, size=SIZE, channels=3)


@pytest.fixture(scope="module")
def untrained(summary: DataSummary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a network as it begins."""
    path = tmp_path_factory.mktemp("untrained") / "checkpoint.pt"
    save_checkpoint(path, build_classifier(NETWORK, mean=summary.means, std=summary.stds), NETWORK)
    return path


@pytest.fixture(scope="module")
def model(untrained: Path) -> Path:
    """The same as an ONNX file, with features.onnx beside it."""
    return export(untrained, untrained.parent / "model.onnx", size=SIZE, features=untrained.parent / "features.onnx")


def test_a_checkpoint_keeps_the_constants_of_every_channel(
    untrained: Path, summary: DataSummary, cpu: torch.device
) -> None:
    """They are measured on the training files, and come back as they were."""
    loaded = load_checkpoint(untrained, cpu)
    assert loaded.mean.flatten().tolist() == pytest.approx(summary.means)
    assert loaded.std.flatten().tolist() == pytest.approx(summary.stds)


def test_the_split_is_resident_as_it_lies(letters: Dataset, cpu: torch.device) -> None:
    """Channels last, as pixels come and as the network's convolutions like them."""
    images = load_split(letters, "train", cpu).images
    assert (images.dtype, images.shape[1:]) == (torch.uint8, (SIZE, SIZE, 3))


def test_the_graph_takes_colours(model: Path) -> None:
    """images: uint8[batch, 8, 8, 3]."""
    (images,) = onnx.load(model).graph.input
    shape = [size.dim_param or size.dim_value for size in images.type.tensor_type.shape.dim]
    assert shape == ["batch", SIZE, SIZE, 3]


def test_the_graph_is_proved_equal(model: Path, untrained: Path, letters: Dataset, tmp_path: Path) -> None:
    """On the validation images and on extremes in every ink, which begin the known answers."""
    known = tmp_path / "known.npz"
    verification = verify(model, untrained, letters, known_answers=known, features=model.with_name("features.onnx"))
    assert verification.maps_distance is not None
    with np.load(known) as answers:
        images = answers["images"]
    assert verification.known_answer_count == len(images) == 64
    assert images.shape[1:] == (SIZE, SIZE, 3)
    inks = {tuple(image.reshape(-1, 3).max(axis=0)) for image in images}
    assert {(255, 0, 0), (0, 255, 0), (0, 0, 255)} <= inks


def test_a_network_that_mixes_up_red_and_blue_is_found(untrained: Path, letters: Dataset, tmp_path: Path) -> None:
    """A graph that was exported from other weights does not answer as this one."""
    classifier = load_checkpoint(untrained, torch.device("cpu"))
    weight = classifier.get_parameter("network.layers.convolutions.0.weight")
    with torch.no_grad():
        weight.copy_(weight.flip(1))
    save_checkpoint(tmp_path / "mixed.pt", classifier, NETWORK)
    mixed = export(tmp_path / "mixed.pt", tmp_path / "mixed.onnx", size=SIZE)
    with pytest.raises(VerificationError, match="not the network that was trained"):
        verify(mixed, untrained, letters, known_answers=tmp_path / "known.npz")


def test_grey_keeps_its_scalar_constants(tmp_path: Path) -> None:
    """No transposition and no vector of one: the graph of grey images is as small as it can be."""
    grey = NETWORK.model_copy(update={"features": (1, 2, 4)})
    save_checkpoint(tmp_path / "grey.pt", build_classifier(grey, mean=(0.5,), std=(0.25,)), grey)
    graph = onnx.load(export(tmp_path / "grey.pt", tmp_path / "grey.onnx", size=SIZE)).graph
    assert [node.op_type for node in graph.node][:6] == ["Cast", "Div", "Sub", "Div", "Unsqueeze", "Conv"]
    shapes = {constant.name: list(constant.dims) for constant in graph.initializer}
    assert (shapes["classifier.mean"], shapes["classifier.std"]) == ([], [])
