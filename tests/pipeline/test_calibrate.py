"""The temperature: as sure as right, and no answer changes."""

import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from pipeline.calibrate import calibrate, fit_temperature
from pipeline.check import DataSummary
from pipeline.config import Preset
from pipeline.data.dataset import Dataset
from pipeline.evaluate import evaluate
from pipeline.train import train
from pipeline.training.checkpoint import load_checkpoint
from tests.pipeline.presets import with_training


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_who_is_too_sure_by_a_factor_is_divided_by_it(factor: float) -> None:
    """Labels that are drawn as the logits promise, then logits that are `factor` times as large."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20_000, 5, generator=generator)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator).squeeze(1)
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.03)


@pytest.mark.parametrize(("shift", "doubt"), [(1.0, 0.0), (9.0, 1 / 1002)], ids=["too sure", "not sure enough"])
def test_no_other_temperature_fits_better(shift: float, doubt: float) -> None:
    """The cross-entropy is least there: of the labels as they are, or, to become surer, with one of n + 2 wrong."""
    generator = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(1000, 3, generator=generator), torch.randint(3, (1000,), generator=generator)
    logits[torch.arange(1000), labels] += shift
    logits *= 3 / shift
    best = fit_temperature(logits, labels)
    assert (best > 1) is (doubt == 0)

    def loss(temperature: float) -> float:
        return functional.cross_entropy(logits.double() / temperature, labels, label_smoothing=doubt).item()

    assert loss(best) < min(loss(0.99 * best), loss(1.01 * best))


def test_few_images_without_a_mistake_change_nothing() -> None:
    """Of ten images nobody learns that one in fifty is wrong, nor that none is; of ten thousand one does."""
    right = torch.tensor([[4.0, 0.0]])  # 98 %
    assert fit_temperature(right.expand(10, 2), torch.zeros(10, dtype=torch.int64)) == 1.0
    temperature = fit_temperature(right.expand(10_000, 2), torch.zeros(10_000, dtype=torch.int64))
    assert 1 - (right / temperature).softmax(dim=1)[0, 0].item() == pytest.approx(0.5 / 10_002, rel=1e-3)


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_logits_that_say_nothing_stay(value: float) -> None:
    """Divided by whatever, they are the same answer."""
    assert fit_temperature(torch.full((4, 3), value), torch.tensor([0, 1, 2, 0])) == 1.0


def test_a_classifier_of_smoothed_labels_becomes_as_sure_as_it_is_right(
    small_dataset: Dataset, small_summary: DataSummary, preset: Preset, cpu: torch.device, tmp_path: Path
) -> None:
    """Its answers stay, its probabilities become honest, and the checkpoint keeps that."""
    checkpoint = tmp_path / "checkpoint.pt"
    smoothed = with_training(preset, epochs=6, label_smoothing=0.3)
    train(small_dataset, small_summary, smoothed, device=cpu, checkpoint=checkpoint, on_progress=lambda _: None)
    before = evaluate(checkpoint, small_dataset, split="test", device=cpu)
    temperature = calibrate(checkpoint, small_dataset, device=cpu)
    after = evaluate(checkpoint, small_dataset, split="test", device=cpu)
    assert 0 < temperature < 0.9
    assert math.isclose(load_checkpoint(checkpoint, cpu).temperature.item(), temperature, rel_tol=1e-6)
    assert after.confusion == before.confusion
    assert after.calibration_error < before.calibration_error / 2
    assert after.loss < before.loss
