"""One step of a training, made so that it can be repeated: all that changes from one to the next lies on the device."""

import torch
from torch.nn import functional

from models.classifier import ImageClassifier
from pipeline.config import Training
from pipeline.data.split import Split
from pipeline.training.augment import warp
from pipeline.training.optimise import learning_rates, make_average, make_optimizer
from pipeline.training.plan import Plan, batch_sizes


class Step:
    """Takes the steps of a training, one a call, and counts them where the images are.

    Nothing in a step asks the device for a value, and nothing but the size of its batch comes from the host: a GPU can
    take one after the other without being waited for, or told (`replay.Replayed`).

    Attributes:
        losses: float32 (step,) on the device, over all epochs; 0 for a step that is not taken yet.
    """

    def __init__(self, classifier: ImageClassifier, split: Split, training: Training) -> None:
        device, count = split.images.device, len(split.labels)
        steps_per_epoch = len(batch_sizes(count, training.batch_size))
        steps = training.epochs * steps_per_epoch
        # A GPU's fused kernels read a float32; a CPU's arithmetic is a double's.
        rates = learning_rates(training, steps).to(device, torch.float32 if device.type == "cuda" else torch.float64)
        self._classifier, self._split, self._training = classifier, split, training
        self._rates, self._rate = rates, rates[0].clone()
        self._optimizer = make_optimizer(classifier, training, self._rate)
        self._average = make_average(classifier, training, steps_per_epoch)
        self._number = torch.zeros(1, dtype=torch.int64, device=device)
        self._place = torch.zeros(1, dtype=torch.int64, device=device)
        self._offsets = torch.arange(min(count, training.batch_size), device=device)
        self._order = torch.empty(count, dtype=torch.int64, device=device)
        self._maps = None if training.augmentation.is_none else torch.empty(count, 2, 3, device=device)
        self.losses = torch.zeros(steps, device=device)

    def begin(self, plan: Plan) -> None:
        """Start an epoch from its first image."""
        self._order.copy_(plan.order)
        if self._maps is not None and plan.maps is not None:
            self._maps.copy_(plan.maps)
        self._place.zero_()

    def __call__(self, size: int) -> None:
        """Train on the next `size` images of the epoch."""
        chosen = self._place + self._offsets[:size]  # (batch,)
        batch = self._order.index_select(0, chosen)
        images = self._split.images.index_select(0, batch)
        if self._maps is not None:
            images = warp(images, self._maps.index_select(0, chosen))
        labels = self._split.labels.index_select(0, batch)
        smoothing = self._training.label_smoothing
        is_short = self._training.precision == "bfloat16" and images.is_cuda
        # A graph must not keep what autocast has cast before it.
        with torch.autocast("cuda", torch.bfloat16, enabled=is_short, cache_enabled=False):
            loss = functional.cross_entropy(self._classifier.logits(images), labels, label_smoothing=smoothing)
        self._rate.copy_(self._rates.index_select(0, self._number).view(()))
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        if self._average is not None:
            self._average.update()
        self.losses.index_copy_(0, self._number, loss.detach().view(1))
        self._place += size
        self._number += 1

    def finish(self) -> None:
        """Leave the classifier with the weights to keep: the last, or their average."""
        if self._average is not None:
            self._average.apply()
