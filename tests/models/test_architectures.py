"""The networks that a preset can name, and what is found out about one before it is trained."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from models.architectures import ARCHITECTURES, MultilayerPerceptron, NetworkSpec, check_spec
from models.cnn import CNNSpec, PooledReadoutCNN

SPECS = {
    "pooled-readout": NetworkSpec(features=(1, 2, 3), sizes=(8, 4, 2), classes=5, taps=(1, 1), batch_norm=True),
    "multilayer-perceptron": NetworkSpec(features=(1, 6), sizes=(8,), classes=5),
}


def test_every_architecture_is_tried_here() -> None:
    """Whoever adds one adds a spec for these tests."""
    assert set(SPECS) == set(ARCHITECTURES)


@pytest.mark.parametrize("name", SPECS)
def test_an_architecture_maps_images_to_logits(name: str) -> None:
    """One row of logits for each image, and every weight learns."""
    network = ARCHITECTURES[name](SPECS[name])
    logits = network(torch.randn(3, 1, 8, 8))
    assert logits.shape == (3, 5)
    logits.square().sum().backward()
    assert all(weights.grad is not None and weights.grad.any() for weights in network.parameters())


def test_pooled_readout_is_the_network_of_the_lab() -> None:
    """With the same seed the mapping builds what PooledReadoutCNN builds, to the bit."""
    torch.manual_seed(3)
    expected = PooledReadoutCNN(CNNSpec(), pooling="max", initialisation="randn").state_dict()
    torch.manual_seed(3)
    spec = NetworkSpec((1, 4, 8), (28, 14, 7), 10, taps=(1, 1), pooling="max", initialisation="randn")
    built = ARCHITECTURES["pooled-readout"](spec).state_dict()
    assert list(built) == list(expected)
    assert all(torch.equal(built[name], tensor) for name, tensor in expected.items())


def test_a_perceptron_worked_by_hand() -> None:
    """Two pixels, one hidden feature, two logits."""
    network = MultilayerPerceptron(2, 1, hidden=(1,), classes=2)
    for layer, weights in zip(network.layers, ([[3.0, -1.0]], [[2.0], [-1.0]]), strict=True):
        layer.load_state_dict({"weight": torch.tensor(weights), "bias": torch.full((len(weights),), 0.5)})
    images = torch.tensor([[1.0, 2.0], [0.0, 4.0]]).view(2, 2, 1, 1)
    assert network(images).tolist() == [[3.5, -1.0], [0.5, 0.5]]  # hidden: 3 - 2 + 0.5, and 0 - 4 + 0.5 that ReLU stops


@pytest.mark.parametrize(
    ("name", "spec", "message"),
    [
        pytest.param("pooled-readout", NetworkSpec((1, 2), (8, 4), 5), "taps must have one entry", id="no taps"),
        pytest.param("pooled-readout", NetworkSpec((1, 2), (8, 3), 5, (1,)), "3 does not divide 8", id="sizes"),
        pytest.param("multilayer-perceptron", NetworkSpec((1, 2), (8,), 5, (1,)), "no taps", id="a perceptron's taps"),
        pytest.param("multilayer-perceptron", NetworkSpec((1,), (8,), 5), "each hidden layer", id="nothing hidden"),
        pytest.param("multilayer-perceptron", NetworkSpec((1, 0), (8,), 5), "integer >= 1, got 0", id="no features"),
        pytest.param("multilayer-perceptron", NetworkSpec((1, 2), (8,), 0), "classes must be", id="no classes"),
        pytest.param("multilayer-perceptron", NetworkSpec((), (8,), 5), "one entry at least", id="no image"),
    ],
)
def test_a_spec_that_does_not_fit_is_refused(name: str, spec: NetworkSpec, message: str) -> None:
    """The message says what was wrong and what was expected."""
    with pytest.raises(ValueError, match=message):
        check_spec(ARCHITECTURES[name], spec)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        pytest.param(
            lambda _: nn.Flatten(),
            r"float32 \(2, 64\) for 2 images; expected .*\(2, 5\)",
            id="no readout",
        ),
        pytest.param(lambda _: nn.Conv2d(1, 5, 8), r"gives float32 \(2, 5, 1, 1\)", id="not flattened"),
    ],
)
def test_a_module_of_ones_own_must_give_logits(build: Callable[[NetworkSpec], nn.Module], message: str) -> None:
    """A module whose output is not (batch, classes) is refused before anything is trained."""
    with pytest.raises(ValueError, match=message):
        check_spec(build, SPECS["pooled-readout"])


def test_a_check_draws_no_random_number() -> None:
    """Reading a preset leaves torch's generator as it was."""
    before = torch.get_rng_state()
    for name, spec in SPECS.items():
        check_spec(ARCHITECTURES[name], spec)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_perceptron_refuses_images_of_another_shape() -> None:
    """As the other networks do."""
    with pytest.raises(ValueError, match=r"\(batch, 1, 8, 8\), got \(2, 1, 8, 9\)"):
        MultilayerPerceptron(1, 8, hidden=(3,), classes=2)(torch.zeros(2, 1, 8, 9))
