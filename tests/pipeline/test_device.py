"""The device is the one asked for, or the flow stops."""

import pytest
import torch

from pipeline.config import Precision
from pipeline.errors import DeviceError
from pipeline.training.device import choose_device, describe_device, multiply_as

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU")


def test_cpu_is_the_cpu() -> None:
    """The CPU can always be had, GPU or not."""
    assert choose_device("cpu") == torch.device("cpu")


@without_gpu
def test_auto_takes_what_is_there() -> None:
    """Without a GPU, auto is the CPU."""
    assert choose_device("auto") == torch.device("cpu")


@without_gpu
def test_cuda_without_a_gpu_stops() -> None:
    """Who asks for CUDA where there is none is told so, and never trains on the CPU instead."""
    with pytest.raises(DeviceError, match="cuda was asked for, but torch finds no usable GPU; use --device cpu"):
        choose_device("cuda")


def test_the_description_names_the_hardware(cpu: torch.device) -> None:
    """The description of the CPU says more than its type."""
    kind, _, model = describe_device(cpu).partition(": ")
    assert kind == "cpu"
    assert model


@pytest.mark.parametrize(("precision", "expected"), [("float32", "ieee"), ("tf32", "tf32"), ("bfloat16", "ieee")])
def test_the_precision_of_a_gpu_is_put_back(precision: Precision, expected: str) -> None:
    """Inside the block torch multiplies as asked, behind it as before, also when the block fails."""
    backends = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # type: ignore[attr-defined]

    def now() -> list[str]:
        return [backend.fp32_precision for backend in backends]

    before, inside = now(), []

    def fail_inside() -> None:
        with multiply_as(precision):
            inside.extend(now())
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert inside == [expected, expected]
    assert now() == before
