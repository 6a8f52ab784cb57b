"""Makes a trained classifier as sure as it is right, by one number that changes no answer: the temperature.

Guo et al., "On Calibration of Modern Neural Networks", 2017. A training with smoothed labels needs it most.
"""

from pathlib import Path

import torch
from torch import Tensor

from pipeline.data.dataset import Dataset, load_split
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
    """The temperature with the least mean cross-entropy of logits (image, class) that are divided by it, (0, ∞).

    By Newton's method on its inverse, in which the cross-entropy is convex. The labels of n images count as if one of
    n + 2 were wrong, as with Platt (1999): else a classifier that errs on none of a few would be sure without limit.
    """
    logits = logits.double().cpu()
    logits = logits - logits.mean(dim=1, keepdim=True)  # which changes no probability
    doubt = 1 / (len(labels) + 2)
    labelled = logits.gather(1, labels.cpu().unsqueeze(1)).squeeze(1)  # (image,)
    target = (1 - doubt) * labelled.mean()
    inverse = 1.0
    for _ in range(STEPS):
        probabilities = (inverse * logits).softmax(dim=1)
        mean = (probabilities * logits).sum(dim=1)
        slope = (mean.mean() - target).item()
        curvature = ((probabilities * logits.square()).sum(dim=1) - mean.square()).mean().item()
        if curvature <= 0:  # every logit is the same: no temperature changes anything
            break
        inverse = min(2 * inverse, max(inverse / 2, inverse - slope / curvature))
    return 1 / inverse
