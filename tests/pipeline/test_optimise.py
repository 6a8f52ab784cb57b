"""Steps, learning rates and averages, each against a few lines of arithmetic."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.config import Training
from pipeline.training.optimise import learning_rates, make_average, make_optimizer

RECIPE: dict[str, object] = {
    "optimizer": "sgd",
    "schedule": "constant",
    "learning_rate": 0.1,
    "weight_decay": 0.0,
    "batch_size": 8,
    "epochs": 1,
    "seed": 0,
}


def recipe(**changes: object) -> Training:
    """Plain SGD with some values changed."""
    return Training.model_validate(RECIPE | changes)


class Weight(nn.Module):
    """One weight, and the loss (weight - 3)²."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0, dtype=torch.float64))

    def loss(self) -> Tensor:
        """The loss, 0-d."""
        return (self.weight - 3).square()


def walk(training: Training, steps: int) -> list[float]:
    """The weight after each step."""
    network = Weight()
    optimizer = make_optimizer(network, training, learning_rates(training, 1)[0])
    weights = []
    for _ in range(steps):
        optimizer.zero_grad()
        network.loss().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        weights.append(network.weight.item())
    return weights


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_takes_nesterovs_steps(momentum: float) -> None:
    """v ← μv + g, then w ← w - η(g + μv), with g the gradient and the decay of w."""
    weight, velocity, expected = 1.0, 0.0, []
    for _ in range(10):
        gradient = 2 * (weight - 3) + 0.01 * weight
        velocity = momentum * velocity + gradient
        weight -= 0.1 * (gradient + momentum * velocity)
        expected.append(weight)
    assert walk(recipe(momentum=momentum, weight_decay=0.01), 10) == pytest.approx(expected)


def test_adamw_decays_apart_from_the_gradient() -> None:
    """The first step is the decay by ηλ, and then η towards the minimum, whatever the gradient's size."""
    assert walk(recipe(optimizer="adamw", weight_decay=0.5), 1) == pytest.approx([1 - 0.1 * 0.5 + 0.1])


def test_one_cycle_goes_up_and_down() -> None:
    """The learning rate starts low, has its peak after three tenths of the steps, and ends near nothing."""
    rates = learning_rates(recipe(schedule="one-cycle", momentum=0.9), 101).tolist()
    assert rates[0] == pytest.approx(0.1 / 25)
    assert max(rates) == pytest.approx(0.1, rel=1e-3)
    assert rates.index(max(rates)) in {29, 30}
    assert rates[-1] < 1e-5


def test_a_constant_rate_is_one_for_all_steps() -> None:
    """A learning rate that is not to change is the same at each step."""
    assert learning_rates(recipe(), 3).tolist() == [0.1, 0.1, 0.1]


def test_the_optimizer_follows_the_rate() -> None:
    """Whoever writes another number into the rate changes the next step, and only that."""
    network, rate = Weight(), torch.tensor(0.1, dtype=torch.float64)
    optimizer = make_optimizer(network, recipe(), rate)
    network.loss().backward()  # type: ignore[no-untyped-call]
    rate.fill_(0.25)
    optimizer.step()
    assert network.weight.item() == pytest.approx(1 + 0.25 * 4)


def test_an_average_is_that_of_a_loop() -> None:
    """a ← w after the first step, then a ← a + (w - a) / 10 for ten steps; batch norm's statistics alike."""
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).double()
    training = recipe(averaging_epochs=2.0)
    optimizer = make_optimizer(network, training, learning_rates(training, 1)[0])
    average = make_average(network, training, steps_per_epoch=5)
    assert average is not None
    expected: dict[str, np.ndarray] = {}
    torch.manual_seed(5)
    for _ in range(6):
        network(torch.randn(4, 1, 6, 6, dtype=torch.float64)).pow(3).sum().backward()
        optimizer.step()
        average.update()
        for name, tensor in network.state_dict().items():
            now = tensor.numpy().copy()
            expected[name] = expected[name] + (now - expected[name]) / 10 if name in expected else now
    del expected["1.num_batches_tracked"]  # a count, which nothing reads
    average.apply()
    averaged = network.state_dict()
    for name, values in expected.items():
        np.testing.assert_allclose(averaged[name].numpy(), values, rtol=1e-10)


@pytest.mark.parametrize("epochs", [pytest.param(0.0, id="none"), pytest.param(0.2, id="a single step")])
def test_without_averaging_there_is_no_copy(epochs: float) -> None:
    """Who asks for none, or for the average of one step, pays for none."""
    assert make_average(Weight(), recipe(averaging_epochs=epochs), steps_per_epoch=5) is None
