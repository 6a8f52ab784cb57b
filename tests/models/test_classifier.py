"""The classifier takes pixels as they come and gives logits and probabilities, in training and in serving alike."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.classifier import ImageClassifier
from models.cnn import CNNSpec, PooledReadoutCNN


def classifier(mean: float = 0.1307, std: float = 0.3081) -> ImageClassifier:
    """Build the classifier of Task 5."""
    return ImageClassifier(PooledReadoutCNN(CNNSpec()), mean, std)


def random_images(count: int) -> Tensor:
    """Draw uint8 images (count, 28, 28)."""
    return torch.randint(0, 256, (count, 28, 28), dtype=torch.uint8)


@settings(deadline=None, max_examples=30)
@given(mean=st.floats(0, 1), std=st.floats(0.01, 1))
def test_normalisation_is_the_notebooks(mean: float, std: float) -> None:
    """Every pixel value x becomes (x/255 - mean) / std."""
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    expected = [(x / 255 - mean) / std for x in range(256)]
    normalised = ImageClassifier(nn.Identity(), mean, std).double().normalise(pixels)
    torch.testing.assert_close(normalised.flatten(), torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-5)


def test_network_sees_one_normalised_feature() -> None:
    """Black and white under mean 0.5 and std 0.25 reach the network as -2 and 2, shape (batch, 1, row, column)."""
    images = torch.tensor([[[0, 255]]], dtype=torch.uint8)
    assert ImageClassifier(nn.Identity(), 0.5, 0.25).logits(images).tolist() == [[[[-2.0, 2.0]]]]


def test_every_channel_is_normalised_by_its_own() -> None:
    """A red, a green and a blue pixel under three means and deviations reach the network as (batch, 3, row, column)."""
    images = torch.tensor([[[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]], dtype=torch.uint8)
    model = ImageClassifier(nn.Identity(), (0.5, 0.25, 0.0), (0.5, 0.25, 1.0))
    assert model.channels == 3
    assert model.logits(images).tolist() == [[[[1.0, -1.0, -1.0]], [[-1.0, 3.0, -1.0]], [[0.0, 0.0, 1.0]]]]


def test_one_mean_in_a_list_is_grey() -> None:
    """The buffers are scalars all the same, which make the fastest graph."""
    model = ImageClassifier(nn.Identity(), (0.5,), (0.25,))
    assert model.channels == 1
    assert (model.mean.shape, model.std.shape) == ((), ())


@pytest.mark.parametrize("count", [1, 7])
def test_outputs_are_float32_distributions(count: int) -> None:
    """Both outputs are float32 (batch, classes); probabilities lie in [0, 1] and add up to 1."""
    logits, probabilities = classifier()(random_images(count))
    assert (logits.dtype, probabilities.dtype) == (torch.float32, torch.float32)
    assert logits.shape == probabilities.shape == (count, 10)
    assert 0 <= probabilities.min() <= probabilities.max() <= 1
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(count))


def test_probabilities_are_the_softmax_of_the_logits() -> None:
    """Logits of log 1, log 2 and log 5 are probabilities of 1/8, 2/8 and 5/8."""
    network = PooledReadoutCNN(CNNSpec(taps=(0,), features=(1, 1), sizes=(1, 1), classes=3))
    nn.init.ones_(network.layers.convolutions[0].get_parameter("weight"))
    network.readout.data.copy_(torch.tensor([[1.0, 2.0, 5.0]]).log())
    _, probabilities = ImageClassifier(network, mean=0.0, std=1.0)(torch.full((1, 1, 1), 255, dtype=torch.uint8))
    torch.testing.assert_close(probabilities, torch.tensor([[0.125, 0.25, 0.625]]))


def test_extreme_logits_stay_distributions() -> None:
    """Logits beyond what exp can hold still give probabilities, not NaN."""
    network = PooledReadoutCNN(CNNSpec())
    nn.init.constant_(network.readout, 1e6)
    _, probabilities = ImageClassifier(network, 0.1307, 0.3081)(random_images(2))
    # Not a tenth each: at 1e9, sums of the same numbers in another order differ by more than softmax forgives.
    assert (probabilities >= 0).all()
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(2))


def test_training_sees_the_logits_that_are_served() -> None:
    """`logits` is the first output of the forward pass, bit for bit."""
    model, images = classifier(), random_images(3)
    assert torch.equal(model.logits(images), model(images)[0])


def test_gradient_reaches_every_parameter() -> None:
    """The cross entropy of the logits moves every parameter of the network, and mean and std are none."""
    model = classifier()
    loss = nn.functional.cross_entropy(model.logits(random_images(4)), torch.arange(4))
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    assert len(gradients) == len(list(model.network.parameters())) == 3
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_normalisation_travels_with_the_weights() -> None:
    """A state dict carries mean and std, so that a classifier loaded from it answers alike."""
    trained, loaded = classifier(), classifier(mean=0.0, std=1.0)
    loaded.load_state_dict(trained.state_dict())
    images = random_images(2)
    assert torch.equal(loaded.logits(images), trained.logits(images))


def test_everything_moves(place: tuple[str, torch.dtype]) -> None:
    """`.to` takes network, mean and std along; pixels stay uint8."""
    device, dtype = place
    model = classifier().to(device=device, dtype=dtype)
    outputs = model(random_images(2).to(device))
    assert [(output.device.type, output.dtype) for output in outputs] == [(device, dtype)] * 2


def test_batch_may_be_dynamic_in_an_export() -> None:
    """The checks of shape and dtype leave torch.export a batch of any size."""
    model = classifier().eval()
    batch = torch.export.Dim("batch", min=1, max=4096)
    program = torch.export.export(model, (random_images(2),), dynamic_shapes=({0: batch},))
    for count in (1, 5):
        images = random_images(count)
        torch.testing.assert_close(program.module()(images), model(images))


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        pytest.param(0.1, 0.0, r"std must lie in \(0, 1\], .* got 0\.0", id="std of zero"),
        pytest.param(0.1, -0.3, r"std must lie in \(0, 1\], .* got -0\.3", id="negative std"),
        pytest.param(0.1, math.nan, r"std must lie in \(0, 1\], .* got nan", id="std that is no number"),
        pytest.param(0.1, 78.6, r"std must lie in \(0, 1\], .* divided by 255, got 78\.6", id="std in pixels"),
        pytest.param(33.3, 0.3, r"mean must lie in \[0, 1\], .* divided by 255, got 33\.3", id="mean in pixels"),
        pytest.param(math.nan, 0.3, r"mean must lie in \[0, 1\], .* got nan", id="mean that is no number"),
    ],
)
def test_bad_normalisation_is_refused(mean: float, std: float, message: str) -> None:
    """The message names the range, its unit and the value; so a mean in units of 0 … 255 is caught."""
    with pytest.raises(ValueError, match=message):
        classifier(mean, std)


@pytest.mark.parametrize(
    ("means", "stds"),
    [((0.1, 0.2, 0.3), (0.1,)), ((0.1, 0.2), (0.1, 0.2)), ((), ())],
    ids=["three and one", "two channels", "none"],
)
def test_other_numbers_of_channels_are_refused(means: tuple[float, ...], stds: tuple[float, ...]) -> None:
    """One each is grey, three each are colour, and there is nothing else."""
    with pytest.raises(ValueError, match=r"1 number each \(grey\) or 3 \(colour\), got"):
        ImageClassifier(nn.Identity(), means, stds)


@pytest.mark.parametrize("images", [torch.zeros(2, 4, 4), torch.zeros(2, 4, 4, 4)], ids=["grey", "four channels"])
def test_a_classifier_of_colour_refuses_other_images(images: Tensor) -> None:
    """The message has the shape that it takes."""
    model = ImageClassifier(nn.Identity(), (0.1, 0.1, 0.1), (0.2, 0.2, 0.2))
    with pytest.raises(ValueError, match=r"\(batch, row, column, 3\), got"):
        model(images.to(torch.uint8))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        pytest.param(torch.zeros(2, 28, 28), r"dtype torch\.uint8, got torch\.float32", id="floats"),
        pytest.param(
            torch.zeros(28, 28, dtype=torch.uint8), r"\(batch, row, column\), got \(28, 28\)", id="no batch dimension"
        ),
        pytest.param(
            torch.zeros(2, 14, 28, dtype=torch.uint8), r"\(batch, 1, 28, 28\), got \(2, 1, 14, 28\)", id="another size"
        ),
    ],
)
def test_other_images_are_refused(images: Tensor, message: str) -> None:
    """What is not uint8, not of rank 3 or not of the network's size is named with what came."""
    with pytest.raises(ValueError, match=message):
        classifier()(images)
