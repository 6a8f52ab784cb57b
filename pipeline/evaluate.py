"""Measures a trained classifier on the images that it learnt from and on those that it never saw."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from models.classifier import ImageClassifier
from pipeline.checkpoint import load_checkpoint
from pipeline.dataset import Dataset, Split, load_split

BATCH_SIZE = 1000
CALIBRATION_BINS = 15  # the usual number: Guo et al., "On Calibration of Modern Neural Networks", 2017


@dataclass(frozen=True)
class Evaluation:
    """How good a classifier is; all but the train loss is measured on the test images."""

    train_loss: float
    test_loss: float
    accuracy: float  # [0, 1]
    error_rate: float  # 1 - accuracy
    class_accuracy: tuple[float, ...]  # of the images of each class
    confusion: tuple[tuple[int, ...], ...]  # image counts: rows are labels, columns are answers
    calibration_error: float  # expected calibration error, [0, 1]
    test_count: int


def evaluate(checkpoint: Path, dataset: Dataset, *, device: torch.device) -> Evaluation:
    """Measure the classifier in `checkpoint` on both halves of the data set."""
    classifier = load_checkpoint(checkpoint, device)
    train, test = load_split(dataset, "train", device), load_split(dataset, "test", device)
    train_loss = functional.cross_entropy(_logits(classifier, train), train.labels)
    logits = _logits(classifier, test)
    confusion = _confusion(logits.argmax(dim=1), test.labels, classes=logits.shape[1])
    correct_count = confusion.diagonal()
    accuracy = correct_count.sum().item() / len(test.labels)
    return Evaluation(
        train_loss=train_loss.item(),
        test_loss=functional.cross_entropy(logits, test.labels).item(),
        accuracy=accuracy,
        error_rate=1 - accuracy,
        class_accuracy=tuple((correct_count / confusion.sum(dim=1)).tolist()),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        calibration_error=_calibration_error(logits.softmax(dim=1), test.labels),
        test_count=len(test.labels),
    )


@torch.no_grad()
def _logits(classifier: ImageClassifier, split: Split) -> Tensor:
    return torch.cat([classifier.logits(images) for images in torch.split(split.images, BATCH_SIZE)])


def _confusion(answers: Tensor, labels: Tensor, *, classes: int) -> Tensor:
    return torch.bincount(labels * classes + answers, minlength=classes * classes).view(classes, classes)


def _calibration_error(probabilities: Tensor, labels: Tensor) -> float:
    """Sum up how far, in each bin of confidence, the share of right answers lies from the confidence claimed."""
    confidence, answers = probabilities.max(dim=1)
    excess = confidence.double() - (answers == labels).double()
    bins = (confidence * CALIBRATION_BINS).ceil().long()
    per_bin = torch.zeros(CALIBRATION_BINS + 1, dtype=torch.float64, device=excess.device).index_add(0, bins, excess)
    return per_bin.abs().sum().item() / len(labels)
