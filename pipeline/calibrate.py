"""Makes a trained classifier as sure as it is right, by one number that changes no answer: the temperature.

Guo et al., "On Calibration of Modern Neural Networks", 2017. A training with smoothed labels needs it most.
"""

from pathlib import Path

import torch
from torch import Tensor

from pipeline.data.dataset import Dataset
from pipeline.data.split import load_split
from pipeline.evaluate import logits_of
from pipeline.training.checkpoint import load_checkpoint, save_temperature

STEPS = 50  # of Newton's method, which needs about six


def calibrate(checkpoint: Path, dataset: Dataset, *, device: torch.device) -> float:
    """Fit the temperature on the validation images, keep it in `checkpoint`, and return it."""
    split = load_split(dataset, "validation", device)
    temperature = fit_temperature(logits_of(load_checkpoint(checkpoint, device), split), split.labels)
    save_temperature(checkpoint, temperature)
    return temperature


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature (0, ∞) that logits (image, class) are to be divided by: as near to 1 as the labels allow.

    It lies between the one with the least mean cross-entropy and the one that has it if one of n + 2 labels were wrong,
    as with Platt (1999). Of many images both are the same. Of a few without a mistake the first is 0, sure without
    limit, and the second doubts too much: such images are no reason to change anything.
    """
    logits = logits.double().cpu()
    logits = logits - logits.mean(dim=1, keepdim=True)  # which changes no probability
    of_label = logits.gather(1, labels.cpu().unsqueeze(1)).mean().item()
    doubt = 1 / (len(labels) + 2)
    return min(max(1.0, _fit(logits, of_label)), _fit(logits, (1 - doubt) * of_label))


def _fit(logits: Tensor, of_label: float) -> float:
    """The temperature at which the mean logit, weighed by probability, is `of_label`: there the cross-entropy is least.

    By Newton's method on the inverse of the temperature, in which the cross-entropy is convex.
    """
    inverse = 1.0
    for _ in range(STEPS):
        probabilities = (inverse * logits).softmax(dim=1)
        mean = (probabilities * logits).sum(dim=1)
        curvature = ((probabilities * logits.square()).sum(dim=1) - mean.square()).mean().item()
        if curvature <= 0:  # no temperature would change anything (any more)
            break
        inverse = min(2 * inverse, max(inverse / 2, inverse - (mean.mean().item() - of_label) / curvature))
    return 1 / inverse
