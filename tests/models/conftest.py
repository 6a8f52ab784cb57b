"""What the tests of the models share: the same draws in any order, and places to move to."""

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Seed torch, so that a test draws the same numbers whichever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(
    params=[
        pytest.param(("meta", torch.float32), id="to another device"),
        pytest.param(("cpu", torch.float64), id="to another dtype"),
    ]
)
def place(request: pytest.FixtureRequest) -> tuple[str, torch.dtype]:
    """Name a device and a dtype, one of which is not where torch builds things; `meta` needs no hardware."""
    device, dtype = request.param
    return device, dtype
