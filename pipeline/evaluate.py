"""Measures a trained classifier on the images that it learnt from and on those of another split."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.classifier import ImageClassifier
from pipeline.data.dataset import Dataset, Split, SplitName, load_split
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
    confusion = _confusion(logits.argmax(dim=1), images.labels, classes=logits.shape[1])
    correct_count = confusion.diagonal()
    accuracy = correct_count.sum().item() / len(images.labels)
    return Evaluation(
        train_loss=_loss(classifier, load_split(dataset, "train", device)) if train_loss is None else train_loss,
        loss=functional.cross_entropy(logits, images.labels).item(),
        accuracy=accuracy,
        error_rate=1 - accuracy,
        class_accuracy=tuple((correct_count / confusion.sum(dim=1)).tolist()),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        calibration_error=_calibration_error(probabilities, images.labels),
        image_count=len(images.labels),
        split=split,
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


def _calibration_error(probabilities: Tensor, labels: Tensor) -> float:
    """Sum up how far, in each bin of confidence, the share of right answers lies from the confidence claimed."""
    confidence, answers = probabilities.max(dim=1)
    excess = confidence.double() - (answers == labels).double()
    bins = (confidence * CALIBRATION_BINS).ceil().long()
    per_bin = torch.zeros(CALIBRATION_BINS + 1, dtype=torch.float64, device=excess.device).index_add(0, bins, excess)
    return per_bin.abs().sum().item() / len(labels)
