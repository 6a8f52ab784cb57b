"""What a checkpoint gives back is the classifier that went in, and nothing else is ever read as one."""

import pickle
from pathlib import Path

import pytest
import torch

from pipeline.config import Network, load_preset
from pipeline.errors import CheckpointError
from pipeline.training.checkpoint import build_classifier, load_checkpoint, save_checkpoint

IMAGES = torch.arange(2 * 28 * 28).remainder(256).to(torch.uint8).view(2, 28, 28)


@pytest.fixture
def network() -> Network:
    """The network of the lab."""
    return load_preset("lab").network


def test_the_classifier_comes_back(tmp_path: Path, network: Network, cpu: torch.device) -> None:
    """A classifier that was saved and loaded gives the same logits, and is ready to evaluate."""
    classifier = build_classifier(network, mean=0.25, std=0.5)
    save_checkpoint(tmp_path / "runs" / "1.pt", classifier, network)
    loaded = load_checkpoint(tmp_path / "runs" / "1.pt", cpu)
    assert torch.equal(loaded.logits(IMAGES), classifier.logits(IMAGES))
    assert not loaded.training
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["1.pt"]


class _Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("exploded"),)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"no checkpoint", id="text"),
        pytest.param(pickle.dumps(_Bomb(), protocol=2), id="a pickle that runs code"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, cpu: torch.device, content: bytes) -> None:
    """Anything but a checkpoint is refused by name, and code inside it never runs."""
    path = tmp_path / "bad.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"bad\.pt: is no checkpoint: .*; train again"):
        load_checkpoint(path, cpu)
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"network": {"taps": [1]}}, id="half a network"),
        pytest.param({"state": {}}, id="no weights"),
        pytest.param({"std": 0.0}, id="a deviation of zero"),
        pytest.param({"mean": None}, id="no mean"),
    ],
)
def test_a_checkpoint_that_contradicts_itself_is_refused(
    tmp_path: Path, network: Network, cpu: torch.device, changes: dict[str, object]
) -> None:
    """A file with the right keys and wrong values is refused as well."""
    path = tmp_path / "odd.pt"
    save_checkpoint(path, build_classifier(network, mean=0.25, std=0.5), network)
    torch.save(torch.load(path, weights_only=True) | changes, path)
    with pytest.raises(CheckpointError, match=r"odd\.pt: is no checkpoint"):
        load_checkpoint(path, cpu)


def test_a_missing_checkpoint_is_refused(tmp_path: Path, cpu: torch.device) -> None:
    """A path to nothing is refused by name."""
    with pytest.raises(CheckpointError, match=r"none\.pt: is no checkpoint: .*No such file"):
        load_checkpoint(tmp_path / "none.pt", cpu)
