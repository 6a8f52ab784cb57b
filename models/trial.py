"""Tries an untrained network on random images: whether it can be trained, evaluated and exported."""

from collections.abc import Collection
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parameter import is_lazy

from models.checks import check_logits
from models.feature_maps import check_feature_maps

IMAGE_COUNT = 3
SAME = 0.01  # of the largest logit: rounding costs far less, dropout and statistics of a batch far more


def try_network(
    network: nn.Module, shape: tuple[int, int, int], classes: int, *, batch_sizes: Collection[int], device: torch.device
) -> None:
    """Raise ValueError with the fault and its remedy unless `network` maps images of `shape` to logits of `classes`.

    `shape` is (feature, row, column); `batch_sizes` and `device` are those of the training. The network's gradients and
    the statistics of its batch norm change; draws from torch's global generators.
    """
    _check_parameters(network)
    images = torch.randn(IMAGE_COUNT, *shape)
    _try_export(network.eval(), images, classes)
    _try_evaluation(network.to(device), images.to(device), classes)
    layout = torch.channels_last if getattr(network, "channels_last", False) else torch.contiguous_format
    network.to(memory_format=layout)
    for size in sorted(batch_sizes):
        batch = torch.randn(size, *shape, device=device).contiguous(memory_format=layout)
        _try_training(network.train(), batch, classes)


def _check_parameters(network: nn.Module) -> None:
    lazy = [name for name, weights in chain(network.named_parameters(), network.named_buffers()) if is_lazy(weights)]
    if lazy:
        raise ValueError(
            f"{', '.join(lazy)}: got lazy parameters without a shape, expected sizes in the constructor: "
            "nn.Linear(400, 120) for nn.LazyLinear(120)"
        )
    if not any(weights.requires_grad for weights in network.parameters()):
        raise ValueError("got no trainable parameter, expected at least one nn.Parameter that requires a gradient")


@torch.no_grad()
def _try_evaluation(network: nn.Module, images: Tensor, classes: int) -> None:
    """All images together, once more, and one by one: the same logits each time, and the images untouched."""
    given = images.clone()
    together = _forward(network, given, classes)
    if not torch.equal(images, given):
        raise ValueError("forward changes its input in place; expected a new tensor: relu(x) for relu_(x)")
    if not together.isfinite().all():
        raise ValueError("forward gives logits that are not finite for normalised images; expected finite numbers")
    if not _is_same(_forward(network, images, classes), together):
        raise ValueError(
            "forward gives other logits for the same images in eval mode; expected the same: nn.Dropout(p), or "
            "dropout(x, p, training=self.training), for dropout(x, p), and nothing random outside training mode"
        )
    alone = torch.cat([_forward(network, image, classes) for image in torch.split(images, 1)])
    if not _is_same(alone, together):
        raise ValueError(
            "an image's logits depend on the other images of its batch in eval mode; expected the same logits in every "
            "batch: batch norm with track_running_stats=True, and no sum over the batch"
        )
    check_feature_maps(network, images)


def _try_training(network: nn.Module, images: Tensor, classes: int) -> None:
    logits = _forward(network, images, classes)
    if not logits.requires_grad:
        raise ValueError("the logits depend on no trainable parameter; expected no detach() or no_grad() in forward")
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    try:
        functional.cross_entropy(logits, labels).backward()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise ValueError(f"cannot be differentiated: {_first_line(error)}") from error


def _try_export(network: nn.Module, images: Tensor, classes: int) -> None:
    for count in (IMAGE_COUNT, 1):
        _forward(network, images[:count].clone(), classes)  # whose words are plainer than torch.export's
    try:
        torch.export.export(network, (images,), dynamic_shapes=({0: torch.export.Dim("batch", min=1)},), strict=False)
    except Exception as error:  # torch.export's own share no base class
        raise ValueError(
            f"torch.export cannot trace forward: {_first_line(error)}; expected no branch on the values of a tensor "
            "(torch.where(condition, a, b) for if), and x.shape[0] or -1 for the number of images"
        ) from error


def _forward(network: nn.Module, images: Tensor, classes: int) -> Tensor:
    mode, advice = ("training", ", or another batch size") if network.training else ("eval", "")
    try:
        logits = network(images)
    except Exception as error:
        raise ValueError(
            f"forward fails on a batch of {len(images)} in {mode} mode: {_first_line(error)}; expected logits of shape "
            f"({len(images)}, {classes}){advice}"
        ) from error
    return check_logits(logits, len(images), classes)


def _is_same(logits: Tensor, expected: Tensor) -> bool:
    return bool((logits - expected).abs().max() <= SAME * expected.abs().max())


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__
