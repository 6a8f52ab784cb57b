"""The networks of Tasks 1, 3 and 4 compute what their drawings say, and refuse what they cannot be."""

import copy
import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.cnn import CNN, CNNSpec, Initialisation, Pool, PooledCNN, PooledReadoutCNN, Pooling
from models.filters import ShiftConvolution, fixed_filters, load_weights, torch_convolution
from models.pooling import average_pool, lab_average_pool, lab_max_pool, max_pool

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "Task 1": lambda: CNN((1, 2), (1, 4, 8)),
    "Task 1 by shifts": lambda: CNN((1, 2), (1, 4, 8), ShiftConvolution),
    "Task 3": lambda: PooledCNN((1, 1), (1, 4, 8), (28, 14, 7)),
    "Task 3 as the lab pools": lambda: PooledCNN((1, 1), (1, 4, 8), (28, 14, 7), pool=lab_average_pool),
    "Task 4": lambda: PooledReadoutCNN(CNNSpec()),
    "Task 4 with max pooling": lambda: PooledReadoutCNN(CNNSpec(), pooling="max"),
}
every_network = pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS.keys())

BAD_LAYERS = [
    pytest.param({"taps": ()}, r"taps must have one entry for each layer, at least one: got \(\)", id="no layer"),
    pytest.param({"taps": (1, -1)}, r"taps\[1\] of \(1, -1\) must be an integer >= 0, got -1", id="negative taps"),
    pytest.param({"features": (1, 0, 8)}, r"features\[1\] of \(1, 0, 8\) .* >= 1, got 0", id="no feature"),
    pytest.param(
        {"features": (1, 4)},
        r"features must have one entry more than taps: got features \(1, 4\) for taps \(1, 1\)",
        id="a feature too few",
    ),
]
BAD_SIZES = [
    pytest.param({"sizes": (28, 14, 0)}, r"sizes\[2\] of \(28, 14, 0\) .* >= 1, got 0", id="empty image"),
    pytest.param(
        {"sizes": (28, 14)},
        r"sizes must have one entry more than taps: got sizes \(28, 14\) for taps \(1, 1\)",
        id="a size too few",
    ),
    pytest.param({"sizes": (28, 14, 5)}, r"5 does not divide 14 in \(28, 14, 5\)", id="size that does not divide"),
    pytest.param({"sizes": (7, 14, 14)}, r"14 does not divide 7 in \(7, 14, 14\)", id="size that grows"),
]
BAD_SPECS = [
    pytest.param({"classes": 0}, "classes must be an integer >= 1, got 0", id="no class"),
    pytest.param({"taps": [1, 1]}, r"taps must be a tuple of integers, got \[1, 1\]", id="a list"),
    pytest.param({"sizes": (28, 14.0, 7)}, r"sizes\[1\] of .* must be an integer >= 1, got 14\.0", id="a float"),
]


def parameter_count(network: nn.Module) -> int:
    """Count the numbers that learn."""
    return sum(parameter.numel() for parameter in network.parameters())


def output_and_gradients(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Return the output and the gradients of its squared sum in every parameter."""
    output: Tensor = network(images)
    return [output, *torch.autograd.grad(output.square().sum(), list(network.parameters()))]


def test_default_spec_is_the_labs() -> None:
    """Task 5 has two layers of one tap, 1 → 4 → 8 features, 28 → 14 → 7 pixels and ten classes."""
    assert CNNSpec() == CNNSpec(taps=(1, 1), features=(1, 4, 8), sizes=(28, 14, 7), classes=10)


def test_spec_is_a_value() -> None:
    """Equal specs are one key, and none changes."""
    assert len({CNNSpec(), CNNSpec()}) == 1
    with pytest.raises(FrozenInstanceError):
        CNNSpec().classes = 3  # type: ignore[misc]  # what the test is about


@pytest.mark.parametrize(("changed", "message"), BAD_LAYERS + BAD_SIZES + BAD_SPECS)
def test_bad_spec_is_refused(changed: dict[str, Any], message: str) -> None:
    """The message names the field, the rule and the values."""
    with pytest.raises(ValueError, match=message):
        CNNSpec(**changed)


@pytest.mark.parametrize(("changed", "message"), BAD_LAYERS)
def test_bad_layers_are_refused(changed: dict[str, Any], message: str) -> None:
    """A CNN that is built without a spec says the same."""
    with pytest.raises(ValueError, match=message):
        CNN(**({"taps": (1, 1), "features": (1, 4, 8)} | changed))


@pytest.mark.parametrize(("changed", "message"), BAD_LAYERS + BAD_SIZES)
def test_bad_sizes_are_refused(changed: dict[str, Any], message: str) -> None:
    """A pooled CNN that is built without a spec says the same."""
    good = {"taps": (1, 1), "features": (1, 4, 8), "sizes": (28, 14, 7)}
    with pytest.raises(ValueError, match=message):
        PooledCNN(**(good | changed))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pooling", "pooling must be one of average, max, got 'zeros'"),
        ("initialisation", "initialisation must be one of scaled, randn, got 'zeros'"),
    ],
)
def test_unknown_choice_is_refused(name: str, message: str) -> None:
    """The message lists what there is to choose from."""
    with pytest.raises(ValueError, match=message):
        PooledReadoutCNN(CNNSpec(), **{name: "zeros"})  # type: ignore[arg-type]  # what an untyped caller may write


def test_default_network_has_4244_parameters() -> None:
    """4 · 9 + 4 · 8 · 9 taps and 8 · 7² · 10 readout weights, no bias anywhere."""
    assert parameter_count(PooledReadoutCNN(CNNSpec())) == 36 + 288 + 3920 == 4244


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("Task 1", (5, 8, 28, 28)),
        ("Task 1 by shifts", (5, 8, 28, 28)),
        ("Task 3", (5, 8, 7, 7)),
        ("Task 3 as the lab pools", (5, 8, 7, 7)),
        ("Task 4", (5, 10)),
        ("Task 4 with max pooling", (5, 10)),
    ],
    ids=NETWORKS.keys(),
)
def test_output_shape(name: str, shape: tuple[int, ...]) -> None:
    """A convolution keeps the size, a pooling divides it, a readout gives one number for each class."""
    assert NETWORKS[name]()(torch.randn(5, 1, 28, 28)).shape == shape


def test_other_classes_and_layers() -> None:
    """A spec of three layers and three classes gives three logits."""
    spec = CNNSpec(taps=(2, 0, 1), features=(3, 2, 5, 4), sizes=(12, 12, 6, 2), classes=3)
    network = PooledReadoutCNN(spec)
    assert network.readout.shape == (spec.readout_inputs, 3) == (16, 3)
    assert network(torch.randn(2, 3, 12, 12)).shape == (2, 3)


def test_cnn_is_the_recursion_of_equation_4() -> None:
    """The output is σ(H_2 ⋆ σ(H_1 ⋆ X)), never negative."""
    network, images = CNN((1, 2), (2, 3, 1)), torch.randn(2, 2, 6, 6)
    first, second = network.convolutions
    assert torch.equal(network(images), second(first(images).clamp(min=0)).clamp(min=0))
    assert network(images).min() >= 0


@pytest.mark.parametrize("pool", [pytest.param(average_pool, id="average"), pytest.param(max_pool, id="max")])
def test_pooled_cnn_pools_behind_the_relu(pool: Pool) -> None:
    """Each layer is a convolution, then a ReLU, then a pooling by N_{l-1} / N_l."""
    network, images = PooledCNN((1, 1), (1, 2, 2), (12, 6, 2), pool=pool), torch.randn(2, 1, 12, 12)
    first, second = network.convolutions
    assert network.windows == (2, 3)
    assert torch.equal(network(images), pool(second(pool(first(images).relu(), 2)).relu(), 3))


def test_a_layer_need_not_pool() -> None:
    """Where a size repeats, the pixels stay as they are."""
    network, images = PooledCNN((1, 1), (1, 2, 2), (6, 6, 3)), torch.randn(2, 1, 6, 6)
    first, second = network.convolutions
    assert torch.equal(network(images), average_pool(second(first(images).relu()).relu(), 2))


def test_batch_norm_stands_between_convolution_and_relu() -> None:
    """While it trains, each feature of a batch leaves its convolution with mean 0 and variance 1."""
    network, images = PooledCNN((1, 1), (1, 2, 3), (12, 6, 2), batch_norm=True).double(), torch.randn(4, 1, 12, 12)
    expected = images = images.double()
    for convolution, window in zip(network.convolutions, network.windows, strict=True):
        features = convolution(expected)
        mean, var = features.mean(dim=(0, 2, 3), keepdim=True), features.var(dim=(0, 2, 3), correction=0, keepdim=True)
        expected = average_pool(((features - mean) / (var + 1e-5).sqrt()).relu(), window)
    torch.testing.assert_close(network(images), expected)


def test_batch_norm_answers_alike_alone_and_among_others() -> None:
    """Once it has trained, an image's logits are those of the statistics that were learnt, whoever is beside it."""
    network, images = PooledReadoutCNN(CNNSpec(), batch_norm=True).double(), torch.randn(6, 1, 28, 28).double()
    network(images)
    network.eval()
    torch.testing.assert_close(network(images)[2:3], network(images[2:3]))


def test_batch_norm_is_left_out_unless_asked_for() -> None:
    """The lab's network has taps and a readout, and nothing else that a checkpoint would have to know."""
    names = list(PooledReadoutCNN(CNNSpec()).state_dict())
    assert names == ["readout", "layers.convolutions.0.weight", "layers.convolutions.1.weight"]


def test_readout_worked_by_hand() -> None:
    """A readout of ones adds up the pooled features of each image."""
    network = PooledReadoutCNN(CNNSpec(taps=(0,), features=(1, 1), sizes=(2, 1), classes=2))
    load_weights(network.layers.convolutions[0], torch.full((1, 1, 1, 1), 2.0))
    nn.init.constant_(network.readout, 3.0)
    images = torch.tensor([[[[1.0, 2.0], [-3.0, 5.0]]]])
    assert network(images).tolist() == [[12.0, 12.0]]  # 3 · (2 + 4 + 0 + 10) / 4


@pytest.mark.parametrize(
    ("pooling", "lab_pool"),
    [pytest.param("average", lab_average_pool, id="average"), pytest.param("max", lab_max_pool, id="max")],
)
def test_shipped_network_equals_the_labs(pooling: Pooling, lab_pool: Pool) -> None:
    """Shifts and rolls in place of torch's own change neither the logits nor any gradient."""
    shipped = PooledReadoutCNN(CNNSpec(), pooling=pooling).double()
    lab = copy.deepcopy(shipped)
    lab.layers = PooledCNN((1, 1), (1, 4, 8), (28, 14, 7), pool=lab_pool, convolution=ShiftConvolution).double()
    lab.load_state_dict(shipped.state_dict())
    images = torch.randn(3, 1, 28, 28, dtype=torch.float64)
    torch.testing.assert_close(output_and_gradients(lab, images), output_and_gradients(shipped, images))


@pytest.mark.parametrize("convolution", [ShiftConvolution, torch_convolution])
def test_task_2_loads_the_fixed_filters(convolution: Callable[[int, int, int], nn.Module]) -> None:
    """One layer with the filters of equation (6) shows a bright dot as the filters, turned, without their negatives."""
    network = CNN((1,), (1, 3), convolution)
    load_weights(network.convolutions[0], fixed_filters())
    dot = torch.zeros(1, 1, 3, 3)
    dot[..., 1, 1] = 1
    assert torch.equal(network(dot)[0], fixed_filters().flip(2, 3).squeeze(1).relu())


@pytest.mark.parametrize(
    ("initialisation", "std"),
    [pytest.param("scaled", 1 / math.sqrt(392), id="scaled"), pytest.param("randn", 1.0, id="as the lab draws it")],
)
def test_readout_is_drawn_with_its_scale(initialisation: Initialisation, std: float) -> None:
    """The 3,920 weights have mean 0 and the standard deviation of their initialisation, within five standard errors."""
    torch.manual_seed(7)
    readout = PooledReadoutCNN(CNNSpec(), initialisation=initialisation).readout
    assert abs(readout.mean().item()) < 5 * std / math.sqrt(3920)
    assert abs(readout.std().item() - std) < 5 * std / math.sqrt(2 * 3920)


def test_scaled_is_the_default() -> None:
    """With the same seed the lab's readout is √392 times ours, and the taps are the same."""
    torch.manual_seed(7)
    ours = PooledReadoutCNN(CNNSpec())
    torch.manual_seed(7)
    labs = PooledReadoutCNN(CNNSpec(), initialisation="randn")
    torch.testing.assert_close(labs.readout, ours.readout * math.sqrt(392))
    torch.testing.assert_close(labs.layers.state_dict(), ours.layers.state_dict())


@every_network
def test_every_parameter_learns(build: Callable[[], nn.Module]) -> None:
    """A step of gradient descent changes every parameter, each layer's taps included."""
    network = build()
    before = copy.deepcopy(network.state_dict())
    network(torch.rand(8, 1, 28, 28)).square().mean().backward()
    torch.optim.SGD(network.parameters(), lr=1.0).step()
    assert len(before) >= 2
    assert not any(torch.equal(before[name], after) for name, after in network.state_dict().items())


@every_network
def test_everything_moves(build: Callable[[], nn.Module], place: tuple[str, torch.dtype]) -> None:
    """`.to` leaves nothing behind, so that a moved network still computes."""
    device, dtype = place
    network = build().to(device=device, dtype=dtype)
    output = network(torch.zeros(2, 1, 28, 28, device=device, dtype=dtype))
    assert (output.device.type, output.dtype) == (device, dtype)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        pytest.param("Task 1", (1, 28, 28), r"\(batch, 1, row, column\), got \(1, 28, 28\)", id="no batch dimension"),
        pytest.param(
            "Task 1",
            (2, 3, 28, 28),
            r"\(batch, 1, row, column\), got \(2, 3, 28, 28\)",
            id="another number of features",
        ),
        pytest.param("Task 3", (2, 1, 14, 14), r"\(batch, 1, 28, 28\), got \(2, 1, 14, 14\)", id="another size"),
        pytest.param("Task 4", (2, 1, 28, 29), r"\(batch, 1, 28, 28\), got \(2, 1, 28, 29\)", id="not square"),
        pytest.param("Task 4", (28, 28), r"\(batch, 1, 28, 28\), got \(28, 28\)", id="a bare image"),
    ],
)
def test_images_of_another_shape_are_refused(name: str, shape: tuple[int, ...], message: str) -> None:
    """The message names the shape that was expected and the one that came."""
    with pytest.raises(ValueError, match=f"expected images of shape {message}"):
        NETWORKS[name]()(torch.zeros(shape))
