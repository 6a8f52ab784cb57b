"""Measures a trained classifier on the images that it learnt from and on those of another split."""

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.classifier import ImageClassifier
from pipeline.data.dataset import Dataset
from pipeline.data.split import Split, SplitName, load_split
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.device import multiply_as

BATCH_SIZE = 1000
CALIBRATION_BINS = 15  # the usual number: Guo et al., "On Calibration of Modern Neural Networks", 2017


@dataclass(frozen=True)
class Evaluation:
    """How good a classifier is; all but the train loss is measured on the images of one split."""

    train_loss: float
    loss: float
    accuracy: float  # [0, 1]
    error_rate: float  # 1 - accuracy
    class_accuracy: tuple[float, ...]  # of the images of each class
    confusion: tuple[tuple[int, ...], ...]  # image counts: rows are labels, columns are answers
    calibration_error: float  # expected calibration error, [0, 1]
    image_count: int
    split: SplitName
    calibration_noise: float = 0.0  # the calibration error that 95 % of perfectly calibrated classifiers stay below


def evaluate(
    checkpoint: Path,
    dataset: Dataset,
    *,
    split: SplitName,
    device: torch.device,
    answers: Path | None = None,
    train_loss: float | None = None,
) -> Evaluation:
    """Measure the classifier in `checkpoint` on the images of `split`, and its loss on those that it learnt from.

    `answers` is the file in which to keep the probabilities, float32 (image, class), and the labels, int64 (image,), in
    the order of the split: what the report shows of single images need not be computed again. Nor need the train loss,
    where an evaluation of the same checkpoint on another split gave it.
    """
    classifier = load_checkpoint(checkpoint, device)
    images = load_split(dataset, split, device)
    logits = logits_of(classifier, images)
    probabilities = logits.softmax(dim=1)
    if answers is not None:
        np.savez(answers, probabilities=probabilities.cpu().numpy(), labels=images.labels.cpu().numpy())
    confidence, predicted = probabilities.max(dim=1)
    confusion = _confusion(predicted, images.labels, classes=logits.shape[1])
    correct_count = confusion.diagonal()
    accuracy = correct_count.sum().item() / len(images.labels)
    return Evaluation(
        train_loss=_loss(classifier, load_split(dataset, "train", device)) if train_loss is None else train_loss,
        loss=functional.cross_entropy(logits, images.labels).item(),
        accuracy=accuracy,
        error_rate=1 - accuracy,
        class_accuracy=tuple((correct_count / confusion.sum(dim=1)).tolist()),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        calibration_error=calibration_error(confidence, predicted == images.labels),
        image_count=len(images.labels),
        split=split,
        calibration_noise=calibration_noise(confidence),
    )


@torch.no_grad()
def logits_of(classifier: ImageClassifier, split: Split) -> Tensor:
    """What it says of every image of a split, float32 (image, class), multiplied in full as it will be served."""
    with multiply_as("float32"):
        return torch.cat([classifier.logits(images) for images in torch.split(split.images, BATCH_SIZE)])


def _loss(classifier: ImageClassifier, split: Split) -> float:
    return functional.cross_entropy(logits_of(classifier, split), split.labels).item()


def _confusion(answers: Tensor, labels: Tensor, *, classes: int) -> Tensor:
    return torch.bincount(labels * classes + answers, minlength=classes * classes).view(classes, classes)


def calibration_error(confidence: Tensor, is_right: Tensor) -> float:
    """Sum up how far, in each bin of confidence, the share of right answers lies from the confidence claimed."""
    excess = confidence.double() - is_right.double()
    return _sum_per_bin(confidence, excess).abs().sum().item() / len(confidence)


def calibration_noise(confidence: Tensor) -> float:
    """About the 95 % quantile of the calibration error if answers are right exactly as often as they claim.

    In each bin the excess is then about normal, and the error is a sum of half-normal variables. The reference is that
    of consistency bars: Bröcker and Smith, "Increasing the reliability of reliability diagrams", 2007.
    """
    variances = _sum_per_bin(confidence, confidence.double() * (1 - confidence.double()))
    mean = math.sqrt(2 / math.pi) * variances.sqrt().sum().item()
    deviation = math.sqrt((1 - 2 / math.pi) * variances.sum().item())
    return (mean + NormalDist().inv_cdf(0.95) * deviation) / len(confidence)


def _sum_per_bin(confidence: Tensor, values: Tensor) -> Tensor:
    bins = (confidence * CALIBRATION_BINS).ceil().long()
    return torch.zeros(CALIBRATION_BINS + 1, dtype=torch.float64, device=values.device).index_add(0, bins, values)
