"""The sentences with which a model refuses what it cannot compute."""

from collections.abc import Collection, Sequence
from itertools import pairwise

import torch
from torch import Tensor


def check_integer(name: str, value: object, minimum: int) -> None:
    """Raise ValueError unless `value` is an integer, not a bool, of at least `minimum`."""
    if type(value) is not int or value < minimum:
        raise ValueError(f"{name} must be an integer >= {minimum}, got {value!r}")


def check_integers(name: str, values: Sequence[object], minimum: int) -> None:
    """Raise ValueError unless every entry of `values` is an integer of at least `minimum`."""
    for index, value in enumerate(values):
        check_integer(f"{name}[{index}] of {tuple(values)}", value, minimum)


def check_tuple(name: str, values: object) -> None:
    """Raise ValueError unless `values` is a tuple, which can be compared and hashed where a list cannot."""
    if type(values) is not tuple:
        raise ValueError(f"{name} must be a tuple of integers, got {values!r}")


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, got {value!r}")


def check_layers(taps: Sequence[int], features: Sequence[int]) -> None:
    """Raise ValueError unless [K_1 … K_L] and [F_0 … F_L] describe the same L >= 1 layers."""
    check_integers("taps", taps, minimum=0)
    check_integers("features", features, minimum=1)
    if not taps:
        raise ValueError("taps must have one entry for each layer, at least one: got ()")
    _check_one_more("features", features, taps)


def check_sizes(taps: Sequence[int], sizes: Sequence[int]) -> None:
    """Raise ValueError unless [N_0 … N_L] has a size for each layer and each divides the one before it.

    The lab takes the floor of N_{l-1} / N_l, so it accepts sizes that its pooling then does not deliver.
    """
    check_integers("sizes", sizes, minimum=1)
    _check_one_more("sizes", sizes, taps)
    for before, after in pairwise(sizes):
        if before % after:
            raise ValueError(
                f"sizes must each divide the one before: {after} does not divide {before} in {tuple(sizes)}"
            )


def check_shape(images: Tensor, *expected: int | str) -> None:
    """Raise ValueError unless `images` has the expected shape: a number must match, a word stands for any size.

    Compares static dimensions only, so torch.export may leave the batch dynamic.
    """
    actual = tuple(images.shape)
    if len(actual) != len(expected) or any(
        isinstance(size, int) and size != found for size, found in zip(expected, actual, strict=True)
    ):
        raise ValueError(f"expected images of shape ({', '.join(map(str, expected))}), got {actual}")


def check_logits(logits: object, count: int, classes: int) -> Tensor:
    """Return `logits`; raise ValueError unless a network made them of `count` images: float32 (count, classes)."""
    expected = f"expected one tensor of logits, float32 ({count}, {classes})"
    if not isinstance(logits, Tensor):
        raise ValueError(f"forward gives a {type(logits).__name__} for {count} images; {expected}")  # noqa: TRY004
    if tuple(logits.shape) != (count, classes) or logits.dtype != torch.float32:
        dtype = str(logits.dtype).removeprefix("torch.")
        raise ValueError(f"forward gives {dtype} {tuple(logits.shape)} for {count} images; {expected}")
    return logits


def _check_one_more(name: str, values: Sequence[int], taps: Sequence[int]) -> None:
    if len(values) != len(taps) + 1:
        raise ValueError(
            f"{name} must have one entry more than taps: got {name} {tuple(values)} for taps {tuple(taps)}",
        )
