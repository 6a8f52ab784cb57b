"""What a network shows of itself: the maps behind each layer, the very ones that its answer is made of."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.architectures import MultilayerPerceptron, NetworkSpec, check_spec
from models.classifier import ImageClassifier
from models.cnn import CNNSpec, PooledCNN, PooledReadoutCNN
from models.feature_maps import NamedMaps, check_feature_maps


class Showing(nn.Module):
    """A network that shows these maps."""

    def __init__(self, *maps: NamedMaps) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, images: Tensor) -> Tensor:
        """Some logits, (batch, 5)."""
        return images.new_zeros(len(images), 5)

    def feature_maps(self, images: Tensor) -> Iterator[NamedMaps]:
        """The maps that it was made with."""
        yield from self.maps


def test_every_layer_shows_its_convolution_and_its_pooling() -> None:
    """In order, each under its name and its number, at the size that it has there."""
    maps = PooledReadoutCNN(CNNSpec()).feature_maps(torch.randn(3, 1, 28, 28))
    assert [(name, tuple(tensor.shape)) for name, tensor in maps] == [
        ("convolution 1", (3, 4, 28, 28)),
        ("pooling 1", (3, 4, 14, 14)),
        ("convolution 2", (3, 8, 14, 14)),
        ("pooling 2", (3, 8, 7, 7)),
    ]


def test_a_layer_that_keeps_its_size_has_no_pooling() -> None:
    """There is nothing to show."""
    network = PooledCNN((1, 1), (1, 2, 3), (8, 8, 4))
    names = [name for name, _ in network.feature_maps(torch.randn(2, 1, 8, 8))]
    assert names == ["convolution 1", "convolution 2", "pooling 2"]


@pytest.mark.parametrize("batch_norm", [False, True], ids=["plain", "batch norm"])
def test_a_convolution_is_shown_behind_its_relu(batch_norm: bool) -> None:
    """And behind the normalisation, where there is one."""
    network, images = PooledCNN((1,), (1, 2), (8, 4), batch_norm=batch_norm).eval(), torch.randn(2, 1, 8, 8)
    (_, convolved), (_, pooled) = network.feature_maps(images)
    expected = network.normalisations[0](
        functional.conv2d(images, network.convolutions[0].get_parameter("weight"), padding=1)
    )
    torch.testing.assert_close(convolved, expected.clamp(min=0))
    torch.testing.assert_close(pooled, functional.avg_pool2d(convolved, 2))


def test_the_last_maps_are_what_the_readout_reads() -> None:
    """What is shown is what answers, bit for bit."""
    network, images = PooledReadoutCNN(CNNSpec(), pooling="max"), torch.randn(3, 1, 28, 28)
    *_, (_, last) = network.feature_maps(images)
    assert torch.equal(network(images), last.flatten(start_dim=1) @ network.readout)
    assert torch.equal(network.layers(images), last)


def test_other_shapes_are_refused_as_ever() -> None:
    """By the same sentence."""
    with pytest.raises(ValueError, match=r"expected images of shape \(batch, 1, 28, 28\), got \(2, 1, 14, 14\)"):
        list(PooledReadoutCNN(CNNSpec()).feature_maps(torch.zeros(2, 1, 14, 14)))


def test_a_classifier_shows_what_its_network_makes_of_pixels() -> None:
    """Pixels come as they are, and are normalised as for an answer."""
    classifier = ImageClassifier(PooledReadoutCNN(CNNSpec()), mean=0.5, std=0.25)
    images = torch.randint(0, 256, (2, 28, 28), dtype=torch.uint8)
    shown = dict(classifier.feature_maps(images))
    assert all(maps.dtype == torch.float32 for maps in shown.values())
    torch.testing.assert_close(shown, dict(classifier.network.feature_maps(classifier.normalise(images))))  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"torch\.uint8, got torch\.float32"):
        list(classifier.feature_maps(images.float()))


def test_a_network_without_them_shows_nothing() -> None:
    """It is trained, exported and served like any other."""
    classifier = ImageClassifier(MultilayerPerceptron(1, 8, hidden=(3,), classes=2), mean=0.5, std=0.25)
    assert list(classifier.feature_maps(torch.zeros(2, 8, 8, dtype=torch.uint8))) == []
    check_feature_maps(classifier.network, torch.zeros(2, 1, 8, 8))


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        pytest.param([("a", (2, 3))], r"'a' must have shape \(2, feature, row, column\), got \(2, 3\)", id="no maps"),
        pytest.param([("a", (1, 3, 4, 4))], r"got \(1, 3, 4, 4\)", id="of another batch"),
        pytest.param([("a", (2, 3, 4, 4)), ("a", (2, 3, 2, 2))], r"got 'a' after \['a'\]", id="one name for two"),
        pytest.param([("", (2, 3, 4, 4))], r"a name of their own, got ''", id="no name"),
    ],
)
def test_what_is_no_maps_is_told_before_the_training(maps: list[tuple[str, tuple[int, ...]]], message: str) -> None:
    """With the name of the layer, and what was expected."""
    network = Showing(*((name, torch.zeros(shape)) for name, shape in maps))
    with pytest.raises(ValueError, match=message):
        check_spec(lambda _: network, NetworkSpec(features=(1,), sizes=(8,), classes=5))
