"""The lab's pooling by roll and index equals torch's, forward and backward."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models.cnn import Pool
from models.pooling import average_pool, lab_average_pool, lab_max_pool, max_pool

AVERAGES = [pytest.param(lab_average_pool, id="lab average"), pytest.param(average_pool, id="torch average")]
MAXIMA = [pytest.param(lab_max_pool, id="lab max"), pytest.param(max_pool, id="torch max")]
PAIRS = [
    pytest.param(lab_average_pool, average_pool, id="average"),
    pytest.param(lab_max_pool, max_pool, id="max"),
]
IMAGE = torch.tensor([[1.0, 2.0, 5.0, 6.0], [3.0, 4.0, -7.0, 0.0]]).reshape(1, 1, 2, 4)


def gradient(pool: Pool, images: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Return the output, and the images' gradient of a sum that weighs each output pixel differently."""
    images = images.clone().requires_grad_()
    output = pool(images, window)
    loss = (output * torch.arange(1, output.numel() + 1).reshape(output.shape)).sum()
    (image_gradient,) = torch.autograd.grad(loss, images)
    return output, image_gradient


@pytest.mark.parametrize(("lab", "shipped"), PAIRS)
@settings(deadline=None, max_examples=30)
@given(
    leading=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
    window=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_lab_equals_torch(
    lab: Pool, shipped: Pool, leading: tuple[int, int], rows: int, columns: int, window: int, seed: int
) -> None:
    """For any shape that divides, output and gradient are those of torch, where no pixels tie."""
    torch.manual_seed(seed)
    images = torch.randn(*leading, rows * window, columns * window, dtype=torch.float64)
    torch.testing.assert_close(gradient(lab, images, window), gradient(shipped, images, window), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("average", AVERAGES)
def test_average_worked_by_hand(average: Pool) -> None:
    """Each window becomes the sum of its four pixels over 2²."""
    assert average(IMAGE, 2).tolist() == [[[[2.5, 1.0]]]]


@pytest.mark.parametrize("maximum", MAXIMA)
def test_max_worked_by_hand(maximum: Pool) -> None:
    """Each window becomes its largest pixel."""
    assert maximum(IMAGE, 2).tolist() == [[[[4.0, 6.0]]]]


@pytest.mark.parametrize("pool", AVERAGES + MAXIMA)
def test_window_of_one_changes_nothing(pool: Pool) -> None:
    """With Δ = 1 the images come back as they are."""
    assert torch.equal(pool(IMAGE, 1), IMAGE)


@pytest.mark.parametrize(
    ("maximum", "shares"),
    [
        pytest.param(lab_max_pool, [0.25, 0.25, 0.25, 0.25], id="lab shares it"),
        pytest.param(max_pool, [1.0, 0.0, 0.0, 0.0], id="torch gives it to the first"),
    ],
)
def test_gradient_of_a_tie(maximum: Pool, shares: list[float]) -> None:
    """Four equal pixels split a gradient of 1 in two ways, each a subgradient of max: the two really differ here."""
    _, split = gradient(maximum, torch.ones(1, 1, 2, 2), 2)
    assert split.flatten().tolist() == shares


def test_ties_behind_a_relu_pass_the_same_gradient() -> None:
    """Both max pools train the same network: windows that tie at 0 behind a ReLU pass no gradient in either."""
    images = torch.randn(4, 2, 8, 8, dtype=torch.float64) - 1
    lab = gradient(lambda pixels, window: lab_max_pool(pixels.relu(), window), images, 2)
    shipped = gradient(lambda pixels, window: max_pool(pixels.relu(), window), images, 2)
    assert (shipped[0] == 0).any()
    torch.testing.assert_close(lab, shipped)


@pytest.mark.parametrize("pool", AVERAGES + MAXIMA)
@pytest.mark.parametrize(
    ("shape", "window", "message"),
    [
        pytest.param((1, 1, 28, 28), 3, "window 3 does not divide images of 28×28 pixels", id="rows and columns"),
        pytest.param((1, 1, 4, 6), 4, "window 4 does not divide images of 4×6 pixels", id="columns alone"),
        pytest.param((1, 1, 6, 4), 4, "window 4 does not divide images of 6×4 pixels", id="rows alone"),
        pytest.param((1, 1, 4, 4), 0, "window must be an integer >= 1, got 0", id="empty window"),
        pytest.param((1, 4, 4), 2, r"\(batch, feature, row, column\), got \(1, 4, 4\)", id="another rank"),
    ],
)
def test_what_cannot_be_pooled_is_refused(pool: Pool, shape: tuple[int, ...], window: int, message: str) -> None:
    """Sizes that do not divide, where the lab takes the floor, and bad windows and ranks are named with values."""
    with pytest.raises(ValueError, match=message):
        pool(torch.zeros(shape), window)


@pytest.mark.parametrize("pool", AVERAGES + MAXIMA)
def test_output_stays_with_its_images(pool: Pool, place: tuple[str, torch.dtype]) -> None:
    """Pooling computes where the images are and in their dtype."""
    device, dtype = place
    output = pool(torch.zeros(2, 3, 4, 6, device=device, dtype=dtype), 2)
    assert (output.device.type, output.dtype, output.shape) == (device, dtype, (2, 3, 2, 3))
