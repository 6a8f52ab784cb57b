"""An evaluation counts what the classifier answers, and its numbers agree with one another."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.check import DataSummary
from pipeline.config import Preset
from pipeline.data.dataset import Dataset
from pipeline.data.split import load_split
from pipeline.evaluate import Evaluation, evaluate
from pipeline.train import train
from pipeline.training.checkpoint import build_classifier, load_checkpoint, save_checkpoint


@pytest.fixture
def undecided(tmp_path: Path, preset: Preset, small_dataset: Dataset, cpu: torch.device) -> Evaluation:
    """The evaluation of a classifier whose readout is all zeros: every class is as likely, so it answers 0."""
    classifier = build_classifier(preset.network, mean=0.0, std=1.0)
    with torch.no_grad():
        classifier.get_parameter("network.readout").zero_()
    save_checkpoint(tmp_path / "undecided.pt", classifier, preset.network)
    return evaluate(tmp_path / "undecided.pt", small_dataset, split="test", device=cpu)


@pytest.fixture
def trained(
    tmp_path: Path, preset: Preset, small_dataset: Dataset, small_summary: DataSummary, cpu: torch.device
) -> Path:
    """The checkpoint of a classifier that knows a little."""
    path = tmp_path / "trained.pt"
    train(small_dataset, small_summary, preset, device=cpu, checkpoint=path, on_progress=print)
    return path


def test_an_undecided_classifier_worked_by_hand(
    undecided: Evaluation, small_dataset: Dataset, cpu: torch.device
) -> None:
    """Ten equal probabilities have the loss log 10, and the answer 0 is right for the zeros alone."""
    counts = torch.bincount(load_split(small_dataset, "test", cpu).labels).tolist()
    zeros = counts[0] / 1000
    assert [undecided.train_loss, undecided.loss] == pytest.approx([math.log(10)] * 2)
    assert undecided.confusion == tuple((count, *[0] * 9) for count in counts)
    assert undecided.class_accuracy == (1.0, *[0.0] * 9)
    assert [undecided.accuracy, undecided.error_rate] == pytest.approx([zeros, 1 - zeros])
    assert undecided.calibration_error == pytest.approx(abs(0.1 - zeros))


def test_the_numbers_agree_with_numpy(trained: Path, small_dataset: Dataset, cpu: torch.device) -> None:
    """Loss, accuracy and calibration are those that numpy computes, one image after the other."""
    evaluation = evaluate(trained, small_dataset, split="test", device=cpu)
    split = load_split(small_dataset, "test", cpu)
    with torch.no_grad():
        logits = load_checkpoint(trained, cpu).logits(split.images).double().numpy()
    labels = split.labels.numpy()
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * 15).astype(int), 14)
    gaps = [abs((confidence - right)[bins == index].sum()) for index in range(15)]
    assert evaluation.loss == pytest.approx(-np.log(probabilities[np.arange(1000), labels]).mean(), rel=1e-4)
    assert evaluation.accuracy == pytest.approx(right.mean())
    assert evaluation.calibration_error == pytest.approx(sum(gaps) / 1000, abs=1e-4)


def test_the_confusion_matrix_holds_every_image_once(trained: Path, small_dataset: Dataset, cpu: torch.device) -> None:
    """The table adds up to the test images, its diagonal to the accuracy, and training has beaten guessing."""
    evaluation = evaluate(trained, small_dataset, split="test", device=cpu)
    confusion = np.array(evaluation.confusion)
    assert confusion.sum() == evaluation.image_count == 1000
    assert confusion.trace() / 1000 == pytest.approx(evaluation.accuracy)
    assert evaluation.class_accuracy == pytest.approx(confusion.diagonal() / confusion.sum(axis=1))
    assert evaluation.accuracy + evaluation.error_rate == 1
    assert evaluation.accuracy > 0.5
    assert evaluation.train_loss < math.log(10)
