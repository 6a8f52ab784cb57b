"""Convolution as a sum of shifts equals torch's, and the filters of Task 2 find what they are named after."""

from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.cnn import Convolution
from models.filters import (
    FIXED_FILTERS,
    ShiftConvolution,
    copy_weights,
    fixed_filters,
    load_weights,
    torch_convolution,
)

both_kinds = pytest.mark.parametrize(
    "convolution",
    [pytest.param(ShiftConvolution, id="sum of shifts"), pytest.param(torch_convolution, id="torch's own")],
)
EDGE = torch.tensor([[0.0, 0.0, 1.0, 1.0]]).repeat(4, 1)  # (row, column): dark on the left, bright on the right


def gradients(convolution: nn.Module, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the output, and the gradients of a sum that weighs each output pixel differently."""
    images = images.clone().requires_grad_()
    output: Tensor = convolution(images)
    loss = (output * torch.arange(output.numel()).reshape(output.shape)).sum()
    weight_gradient, image_gradient = torch.autograd.grad(loss, [*convolution.parameters(), images])
    return output, weight_gradient, image_gradient


@settings(deadline=None, max_examples=30)
@given(
    batch=st.integers(1, 3),
    in_features=st.integers(1, 3),
    out_features=st.integers(1, 3),
    taps=st.integers(0, 3),
    rows=st.integers(1, 7),
    columns=st.integers(1, 7),
    seed=st.integers(0, 2**32 - 1),
)
def test_sum_of_shifts_equals_torch(
    batch: int, in_features: int, out_features: int, taps: int, rows: int, columns: int, seed: int
) -> None:
    """For any shape, filters wider than the image included, output and both gradients are those of nn.Conv2d."""
    torch.manual_seed(seed)
    shifts = ShiftConvolution(in_features, out_features, taps).double()
    twin = torch_convolution(in_features, out_features, taps).double()
    copy_weights(shifts, twin)
    images = torch.randn(batch, in_features, rows, columns, dtype=torch.float64)
    torch.testing.assert_close(gradients(shifts, images), gradients(twin, images), rtol=1e-10, atol=1e-10)


def test_sum_of_shifts_has_the_right_derivatives() -> None:
    """Derivatives in weights and pixels agree with finite differences."""
    convolution = ShiftConvolution(2, 2, 1).double()
    images = torch.randn(1, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(convolution, (images,))


@both_kinds
def test_case_worked_by_hand(convolution: Convolution) -> None:
    """A 2×2 image under the filter 1…9 gives the sums that a pencil gives, with zeros beyond the border."""
    layer = convolution(1, 1, 1)
    load_weights(layer, torch.arange(1.0, 10.0).reshape(1, 1, 3, 3))
    images = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    # top left: 5·1 + 6·2 + 8·3 + 9·4 = 77; top right: 4·1 + 5·2 + 7·3 + 8·4 = 67; and so on round
    assert layer(images).tolist() == [[[[77.0, 67.0], [47.0, 37.0]]]]


@both_kinds
def test_filter_of_no_taps_scales_the_image(convolution: Convolution) -> None:
    """With K = 0 the filter is one number, which multiplies every pixel."""
    layer = convolution(1, 1, 0)
    load_weights(layer, torch.full((1, 1, 1, 1), 3.0))
    images = torch.randn(2, 1, 4, 5)
    torch.testing.assert_close(layer(images), 3 * images)


@both_kinds
@pytest.mark.parametrize("taps", [0, 1, 3])
def test_size_is_kept(convolution: Convolution, taps: int) -> None:
    """Only the number of features changes, whatever the taps."""
    assert convolution(2, 5, taps)(torch.zeros(3, 2, 4, 6)).shape == (3, 5, 4, 6)


def test_both_kinds_start_alike() -> None:
    """The same seed draws the same weights for both kinds, within ±1/√(F (2K+1)²)."""
    torch.manual_seed(4)
    shifts = ShiftConvolution(3, 20, 2)
    torch.manual_seed(4)
    twin = torch_convolution(3, 20, 2)
    assert torch.equal(shifts.weight, twin.weight)
    assert 0.95 * 75**-0.5 < shifts.weight.abs().max() <= 75**-0.5


def test_taps_are_learned() -> None:
    """Gradient descent recovers a filter from its outputs, because the taps are parameters."""
    teacher, student = torch_convolution(1, 2, 1), ShiftConvolution(1, 2, 1)
    images = torch.randn(8, 1, 12, 12)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.5)
    for _ in range(50):
        optimizer.zero_grad()
        (student(images) - teacher(images).detach()).square().mean().backward()
        optimizer.step()
    torch.testing.assert_close(student.weight, teacher.weight, atol=1e-3, rtol=0)


@both_kinds
def test_everything_moves(convolution: Convolution, place: tuple[str, torch.dtype]) -> None:
    """`.to` takes the whole filter along, so that it computes on the device and in the dtype it was moved to."""
    device, dtype = place
    layer = convolution(1, 2, 1).to(device=device, dtype=dtype)
    output = layer(torch.zeros(3, 1, 4, 4, device=device, dtype=dtype))
    assert (output.device.type, output.dtype, output.shape) == (device, dtype, (3, 2, 4, 4))


@pytest.mark.parametrize(
    ("source", "target"),
    [
        pytest.param(ShiftConvolution, torch_convolution, id="shifts to torch"),
        pytest.param(torch_convolution, ShiftConvolution, id="torch to shifts"),
    ],
)
def test_copied_weights_are_equal_and_apart(source: Convolution, target: Convolution) -> None:
    """After copy_weights both hold the same values, and changing one leaves the other alone."""
    original, copy = source(2, 3, 1), target(2, 3, 1)
    copy_weights(original, copy)
    before = original.get_parameter("weight").clone()
    assert torch.equal(copy.get_parameter("weight"), before)
    nn.init.zeros_(copy.get_parameter("weight"))
    assert torch.equal(original.get_parameter("weight"), before)


def test_weights_of_another_shape_are_refused() -> None:
    """The message names the shape that was expected and the one that came."""
    with pytest.raises(ValueError, match=r"expected weights of shape \(1, 2, 3, 3\), got \(2, 1, 3, 3\)"):
        copy_weights(ShiftConvolution(1, 2, 1), torch_convolution(2, 1, 1))


def test_bias_is_never_dropped_silently() -> None:
    """A convolution with a bias is refused as a source and as a target."""
    biased = nn.Conv2d(1, 1, 3, padding=1)
    for source, target in ((biased, ShiftConvolution(1, 1, 1)), (ShiftConvolution(1, 1, 1), biased)):
        with pytest.raises(ValueError, match=r"weight as its only parameter, got \['bias', 'weight'\]"):
            copy_weights(source, target)


@both_kinds
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param((0, 1, 1), "in_features must be an integer >= 1, got 0", id="no input feature"),
        pytest.param((1, -2, 1), "out_features must be an integer >= 1, got -2", id="negative output features"),
        pytest.param((1, 1, -1), "taps must be an integer >= 0, got -1", id="negative taps"),
        pytest.param((1, 1, 1.0), r"taps must be an integer >= 0, got 1\.0", id="taps of another type"),
        pytest.param((True, 1, 1), "in_features must be an integer >= 1, got True", id="a bool is no count"),
    ],
)
def test_bad_arguments_are_named(convolution: Convolution, arguments: tuple[int, int, int], message: str) -> None:
    """The constructor says which argument is wrong, its range, and what came."""
    with pytest.raises(ValueError, match=message):
        convolution(*arguments)


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        pytest.param((2, 5, 5), r"\(2, 5, 5\)", id="no feature dimension"),
        pytest.param((1, 3, 5, 5), r"\(1, 3, 5, 5\)", id="another number of features"),
    ],
)
def test_images_of_another_shape_are_refused(shape: tuple[int, ...], found: str) -> None:
    """The message names the shape that was expected and the one that came."""
    with pytest.raises(ValueError, match=rf"expected images of shape \(batch, 2, row, column\), got {found}"):
        ShiftConvolution(2, 1, 1)(torch.zeros(shape))


def test_fixed_filters_are_those_of_equation_6() -> None:
    """The bank holds box, horizontal and vertical gradient in this order, as the text prints them."""
    assert list(FIXED_FILTERS) == ["box", "horizontal_gradient", "vertical_gradient"]
    assert fixed_filters().dtype == torch.float32
    assert fixed_filters().tolist() == [
        [[[1, 1, 1], [1, 1, 1], [1, 1, 1]]],
        [[[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]]],
        [[[-1, -1, -1], [0, 0, 0], [1, 1, 1]]],
    ]


def test_code_loads_the_negative_of_the_texts_second_filter() -> None:
    """The notebook's second filter is the negative of the text's; the other two are the same."""
    signs = torch.tensor([1.0, -1.0, 1.0]).reshape(3, 1, 1, 1)
    assert torch.equal(fixed_filters("code"), signs * fixed_filters("text"))


def test_unknown_source_of_the_second_filter_is_refused() -> None:
    """The message lists the two that there are."""
    with pytest.raises(ValueError, match="second must be one of text, code, got 'book'"):
        fixed_filters("book")  # type: ignore[arg-type]  # what an untyped caller may write


@pytest.mark.parametrize(("second", "sign"), [("text", 1), ("code", -1)])
def test_fixed_filters_on_a_vertical_edge(second: Literal["text", "code"], sign: int) -> None:
    """Inside the image the box counts bright pixels, only the horizontal gradient sees the edge, with its sign."""
    layer = torch_convolution(1, 3, 1)
    load_weights(layer, fixed_filters(second))
    box, horizontal, vertical = layer(EDGE.reshape(1, 1, 4, 4))[0, :, 1:-1, 1:-1].tolist()
    assert box == [[3, 6], [3, 6]]
    assert horizontal == [[sign * 3, sign * 3]] * 2
    assert vertical == [[0, 0], [0, 0]]


def test_vertical_gradient_sees_the_edge_lying_down() -> None:
    """The same image turned on its side is seen by the vertical gradient, and not by the horizontal one."""
    layer = torch_convolution(1, 3, 1)
    load_weights(layer, fixed_filters())
    _, horizontal, vertical = layer(EDGE.T.reshape(1, 1, 4, 4))[0, :, 1:-1, 1:-1].tolist()
    assert horizontal == [[0, 0], [0, 0]]
    assert vertical == [[3, 3], [3, 3]]
