"""What only a card can show. `make check-gpu` runs these; without a card each is skipped, and says so."""

from importlib.util import find_spec

import pytest
import torch

from tests.pipeline.conftest import cpu, mnist, small_dataset, small_folder, small_summary
from tests.serving.conftest import TRANSPORTS, has_cuda, images, publisher, sessions, versions

# Fixtures of other folders, which pytest finds here by their names.
__all__ = ["cpu", "images", "mnist", "publisher", "sessions", "small_dataset", "small_folder", "small_summary"]
__all__ += ["versions"]

NO_CARD = "needs an NVIDIA card, and a driver for CUDA 13"
NO_CUDA_PROVIDER = "needs an NVIDIA card, onnxruntime-gpu, CUDA 13 and cuDNN 9"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test here, and skip what cannot run: training needs torch's CUDA, the rest onnxruntime's too."""
    here = [item for item in items if item.path.parent.name == "gpu"]
    for item in here:
        item.add_marker("gpu")
    if not torch.cuda.is_available():
        for item in here:
            item.add_marker(pytest.mark.skip(reason=NO_CARD))
    elif not has_cuda():
        for item in here:
            if item.path.name != "test_training.py":
                item.add_marker(pytest.mark.skip(reason=NO_CUDA_PROVIDER))


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> str:
    """What takes the calls; a machine that was lent for its card may lack Envoy."""
    name: str = request.param
    if name == "envoy" and find_spec("envoy") is None:
        pytest.skip("Envoy is not installed here")
    return name
