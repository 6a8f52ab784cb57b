"""Networks as people write them for MNIST, as a clone of this repository would add them, and networks that cannot work.

Each maps (batch, 1, 28, 28) to logits (batch, 10); those of FAULTY have one fault each.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional


class LeNet5(nn.Module):
    """LeCun's, with the view of most tutorials."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2, self.fc3 = nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Two convolutions, three layers."""
        x = functional.max_pool2d(functional.relu(self.conv1(x)), 2)
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        x = x.view(-1, 400)
        logits: Tensor = self.fc3(functional.relu(self.fc2(functional.relu(self.fc1(x)))))
        return logits


class PyTorchExample(nn.Module):
    """The network of pytorch/examples/mnist, with logits in place of log_softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 3, 1), nn.Conv2d(32, 64, 3, 1)
        self.dropout1, self.dropout2 = nn.Dropout(0.25), nn.Dropout(0.5)
        self.fc1, self.fc2 = nn.Linear(9216, 128), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Dropout before and after the hidden layer."""
        x = functional.max_pool2d(functional.relu(self.conv2(functional.relu(self.conv1(x)))), 2)
        x = functional.relu(self.fc1(torch.flatten(self.dropout1(x), 1)))
        logits: Tensor = self.fc2(self.dropout2(x))
        return logits


class Residual(nn.Module):
    """A block of a ResNet, with ReLUs in place."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, 2, 1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(after), nn.BatchNorm2d(after)
        self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, 2, bias=False), nn.BatchNorm2d(after))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Two convolutions beside a shortcut."""
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += self.shortcut(x)
        activated: Tensor = self.relu(y)
        return activated


class RowGRU(nn.Module):
    """A GRU that reads an image row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(28, 32, batch_first=True)
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """The last state decides."""
        states, _ = self.gru(x.squeeze(1))
        logits: Tensor = self.fc(states[:, -1])
        return logits


class Patches(nn.Module):
    """A loop over Python numbers, a dictionary and einsum: traced once, and gone."""

    def __init__(self) -> None:
        super().__init__()
        rates = [rate.item() for rate in torch.linspace(0, 0.1, 4)]  # fails on the meta device
        self.parts = nn.ModuleDict({f"part {place}": nn.Linear(196, 16) for place in range(len(rates))})
        self.mix = nn.Parameter(torch.randn(4, 16, 10) / 8)

    def forward(self, x: Tensor) -> Tensor:
        """Four quarters, each with weights of its own."""
        quarters = x.unfold(2, 14, 14).unfold(3, 14, 14).reshape(x.shape[0], 4, 196)
        found = {name: part(quarters[:, place]).relu() for place, (name, part) in enumerate(self.parts.items())}
        return torch.einsum("bpf,pfc->bc", torch.stack(list(found.values()), dim=1), self.mix)


def conv_net() -> nn.Module:
    """Batch norm over maps and over features."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 16, 3, 2, 1),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(784, 32),
        nn.BatchNorm1d(32),
        nn.ReLU(),
        nn.Linear(32, 10),
    )


def perceptron() -> nn.Module:
    """Flattened pixels."""
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))


def resnet() -> nn.Module:
    """Three blocks, and the mean of what they find."""
    blocks = (Residual(1, 8), Residual(8, 16), Residual(16, 32))
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))


PUBLIC: Mapping[str, Callable[[], nn.Module]] = {
    "LeNet-5 with view": LeNet5,
    "PyTorch's example": PyTorchExample,
    "perceptron": perceptron,
    "batch norm": conv_net,
    "ResNet": resnet,
    "GRU over rows": RowGRU,
    "loops and dictionaries": Patches,
}


class Wrapped(nn.Module):
    """A layer, and a function of it and the image in place of the rest."""

    def __init__(self, forward: Callable[[nn.Module, Tensor], object], layer: nn.Module | None = None) -> None:
        super().__init__()
        self.layer = layer or nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        self.function = forward

    def forward(self, x: Tensor) -> object:
        """Whatever the function makes of it."""
        return self.function(self.layer, x)


def _frozen() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).requires_grad_(requires_grad=False)


def _lazy() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(10))


def _branch(layer: nn.Module, x: Tensor) -> object:
    return layer(x) if x.sum() > 0 else layer(-x)


def _loop(layer: nn.Module, x: Tensor) -> object:
    while x.abs().max() > 1:
        x = x / 2
    return layer(x)


def _statistics() -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten(), nn.Linear(784, 10))


def _auxiliary(layer: nn.Module, x: Tensor) -> object:
    return (layer(x), layer(x)) if layer.training else layer(x)


FAULTY: Mapping[str, tuple[Callable[[], nn.Module], str, str]] = {
    "branch on values": (lambda: Wrapped(_branch), "torch.export cannot trace forward", "torch.where"),
    "loop on values": (lambda: Wrapped(_loop), "torch.export cannot trace forward", "torch.where"),
    "lazy parameters": (_lazy, "1.weight, 1.bias: got lazy parameters", "nn.LazyLinear"),
    "a tuple": (lambda: Wrapped(lambda layer, x: (layer(x), x)), "gives a tuple for 2 images", "one tensor of logits"),
    "a dictionary": (lambda: Wrapped(lambda layer, x: {"logits": layer(x)}), "gives a dict for 2 images", "one tensor"),
    "a tuple in training mode": (lambda: Wrapped(_auxiliary), "gives a tuple for 50 images", "one tensor of logits"),
    "too few logits": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 9)), "(2, 9)", "float32 (2, 10)"),
    "float64": (lambda: Wrapped(lambda layer, x: layer(x).double()), "gives float64 (2, 10)", "float32 (2, 10)"),
    "labels for logits": (lambda: Wrapped(lambda layer, x: layer(x).argmax(1)), "gives int64 (2,)", "float32 (2, 10)"),
    "a batch of two": (lambda: Wrapped(lambda layer, x: layer(x.view(2, 784))), "a batch of 3", "shape (3, 10)"),
    "no batch of one": (lambda: Wrapped(lambda layer, x: layer(x.squeeze())), "a batch of 1 in", "shape (1, 10)"),
    "its input in place": (lambda: Wrapped(lambda layer, x: layer(x.relu_())), "changes its input", "for relu_(x)"),
    "nothing to train": (_frozen, "no trainable parameter", "nn.Parameter"),
    "detached": (lambda: Wrapped(lambda layer, x: layer(x).detach()), "depend on no trainable parameter", "detach()"),
    "dropout in eval mode": (
        lambda: Wrapped(lambda layer, x: layer(functional.dropout(x))),
        "other logits for the same images",
        "training=self.training",
    ),
    "statistics of the batch": (_statistics, "other images of its batch", "track_running_stats=True"),
    "not finite": (lambda: Wrapped(lambda layer, x: layer(x.log())), "not finite", "finite numbers"),
    "a constructor that fails": (lambda: nn.Linear(3), "cannot be built: TypeError", "out_features"),  # type: ignore[call-arg]
}
