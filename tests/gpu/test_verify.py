"""The proof on a card: the file answers on CUDA as PyTorch does, within the bound of the CPU."""

from pathlib import Path

import pytest
import torch

from pipeline.config import load_preset
from pipeline.data.dataset import Dataset
from pipeline.evaluate import evaluate
from pipeline.rehearse import rehearse
from pipeline.verify import LOGITS_TOLERANCE, verify
from serving.provider import CPU, CUDA
from tests.pipeline.candidates import Candidate, make_candidate
from tests.pipeline.presets import with_training


@pytest.fixture
def candidate(small_dataset: Dataset, tmp_path: Path) -> Candidate:
    """A network trained for a moment, exported and proved."""
    return make_candidate(small_dataset, with_training(load_preset("default"), epochs=1), tmp_path / "candidate")


def test_cuda_is_among_the_providers_proved(candidate: Candidate, tmp_path: Path) -> None:
    """With TF32 off it is held to the bound of the CPU; how far TF32 would be off is told, and is more."""
    found = verify(
        candidate.folder / "model.onnx",
        candidate.folder / "checkpoint.pt",
        candidate.dataset,
        known_answers=tmp_path / "known_answers.npz",
    )
    assert found.providers == (CPU, CUDA)
    assert found.distance.logits <= LOGITS_TOLERANCE
    assert found.tf32_distance is not None
    assert found.tf32_distance.logits > found.distance.logits
    assert "with TF32" in found.detail


def test_the_rehearsal_runs_on_cuda(candidate: Candidate) -> None:
    """The serving program answers the known answers on the card before anybody else may ask it."""
    verdict = rehearse(candidate.folder, candidate.description, providers=(CPU, CUDA))
    assert verdict.passed, verdict.detail
    assert f"known answers on {CUDA}" in verdict.detail


def test_the_accuracy_on_a_card_is_that_of_the_cpu(candidate: Candidate) -> None:
    """Evaluated on either, the same images are right but for those on the edge."""
    checkpoint, dataset = candidate.folder / "checkpoint.pt", candidate.dataset
    here, there = (
        evaluate(checkpoint, dataset, split="validation", device=torch.device(name)).accuracy
        for name in ("cpu", "cuda")
    )
    assert there == pytest.approx(here, abs=0.002)
