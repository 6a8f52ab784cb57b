"""How a step changes the weights: the optimizer, its learning rate over the steps, and the average of the weights."""

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pipeline.config import Training


def make_optimizer(network: nn.Module, training: Training) -> Optimizer:
    """SGD, with Nesterov's momentum if there is any, or AdamW, over all weights alike."""
    rate, decay, momentum = training.learning_rate, training.weight_decay, training.momentum
    if training.optimizer == "sgd":
        return SGD(network.parameters(), lr=rate, weight_decay=decay, momentum=momentum, nesterov=momentum > 0)
    return AdamW(network.parameters(), lr=rate, weight_decay=decay)


def make_schedule(optimizer: Optimizer, training: Training, steps: int) -> LRScheduler:
    """The learning rate of each step: one for all, or up to its peak and down to nothing."""
    if training.schedule == "one-cycle":
        return OneCycleLR(optimizer, max_lr=training.learning_rate, total_steps=steps, cycle_momentum=False)
    return LambdaLR(optimizer, lambda _step: 1.0)


def make_average(network: nn.Module, training: Training, steps_per_epoch: int) -> AveragedModel | None:
    """A copy of the network that `update_parameters` draws after it: an exponential moving average over the steps.

    It is the network after the first step; of each further one it takes the part that `averaging_epochs` are steps. The
    statistics of batch norm are averaged as the weights are. None for a training without averaging.
    """
    steps = training.averaging_epochs * steps_per_epoch
    if steps <= 1:
        return None
    average = get_ema_multi_avg_fn(1 - 1 / steps)  # type: ignore[no-untyped-call]
    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)
