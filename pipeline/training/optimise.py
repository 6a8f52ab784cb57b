"""How a step changes the weights: the optimizer, its learning rate over the steps, and the average of the weights."""

import copy

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import OneCycleLR

from pipeline.config import Training


def make_optimizer(network: nn.Module, training: Training, rate: Tensor) -> Optimizer:
    """SGD, with Nesterov's momentum if there is any, or AdamW, over all weights alike.

    It reads the learning rate from `rate`, 0-d and on the network's device, at each step: float32 for a GPU, where a
    step must be one that a CUDA graph can repeat, and so the fused kernels are taken.
    """
    is_on_gpu = rate.is_cuda
    weights, decay, momentum = network.parameters(), training.weight_decay, training.momentum
    if training.optimizer == "sgd":
        nesterov = momentum > 0
        return SGD(weights, lr=rate, weight_decay=decay, momentum=momentum, nesterov=nesterov, fused=is_on_gpu or None)
    return AdamW(weights, lr=rate, weight_decay=decay, fused=is_on_gpu or None, capturable=is_on_gpu)


def learning_rates(training: Training, steps: int) -> Tensor:
    """The learning rate of each step, float64 (steps,): one for all, or up to its peak and down to nothing."""
    if training.schedule == "constant":
        return torch.full((steps,), training.learning_rate, dtype=torch.float64)
    probe = SGD([torch.zeros(1)], lr=training.learning_rate)
    schedule = OneCycleLR(probe, max_lr=training.learning_rate, total_steps=steps, cycle_momentum=False)
    rates = torch.empty(steps, dtype=torch.float64)
    for step in range(steps):
        rates[step] = schedule.get_last_lr()[0]
        if step + 1 < steps:
            probe.step()
            schedule.step()
    return rates


class Average:
    """An exponential moving average over the steps of a network's weights, and of the statistics of batch norm.

    It is the network after the first `update`; of each further one it takes one part in `steps`. Torch's AveragedModel
    counts its updates on the device and asks for the count at each, which a GPU would have to wait for. Counts, such as
    batch norm's of its batches, which nothing reads, are not averaged but stay those of the first update.
    """

    def __init__(self, network: nn.Module, steps: float) -> None:
        self._network = network
        self._weight = 1 / steps
        self._averaged = copy.deepcopy(network)
        self._is_started = False

    @torch.no_grad()
    def update(self) -> None:
        """Draw the average after the network."""
        pairs = list(zip(_tensors(self._averaged), _tensors(self._network), strict=True))
        if self._is_started:
            averaged, now = zip(*((mean, new) for mean, new in pairs if mean.is_floating_point()), strict=True)
            torch._foreach_lerp_(averaged, now, self._weight)
        else:
            for mean, new in pairs:
                mean.copy_(new)
            self._is_started = True

    def apply(self) -> None:
        """Give the network the average."""
        self._network.load_state_dict(self._averaged.state_dict())


def make_average(network: nn.Module, training: Training, steps_per_epoch: int) -> Average | None:
    """The average that the training asks for; None for a training without averaging."""
    steps = training.averaging_epochs * steps_per_epoch
    return Average(network, steps) if steps > 1 else None


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]
