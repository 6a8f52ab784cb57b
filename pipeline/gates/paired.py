"""Whether one model is worse than another, from their answers to the same images.

Only the images that one of the two labels rightly and the other one wrongly tell them apart: the losses, which only the
champion labels rightly, and the wins, which only the candidate does.
"""

import math
from statistics import NormalDist
from typing import NamedTuple

BISECTIONS = 60  # to the last bit of a float


class Pairs(NamedTuple):
    """What two models' answers to the same images come to."""

    image_count: int
    losses: int
    wins: int

    @property
    def difference(self) -> float:
        """The candidate's accuracy less the champion's, [-1, 1]; 0 where there are no images."""
        return (self.wins - self.losses) / max(1, self.image_count)


def lower_bound(pairs: Pairs, confidence: float) -> float:
    """What the true difference of the accuracies lies above, with this confidence: Tango's score bound.

    It holds for few losses and wins too, also for none, where bounds made of an estimated variance say nothing
    (Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample design",
    1998).
    """
    z = NormalDist().inv_cdf(confidence)
    low, high = -pairs.difference, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if _score(pairs, middle) < z else (low, middle)
    return -high


def upper_bound(pairs: Pairs, confidence: float) -> float:
    """What the true difference of the accuracies lies below, with this confidence."""
    return -lower_bound(Pairs(pairs.image_count, pairs.wins, pairs.losses), confidence)


def _score(pairs: Pairs, deficit: float) -> float:
    """How many standard errors the difference lies above that of a candidate which is worse by `deficit`, [-1, 1]."""
    n, losses, wins = pairs
    # The likeliest share of wins among all pairs with this deficit: the root of 2n p² - b p - c = 0.
    b = losses + wins + deficit * (losses - wins - 2 * n)
    c = wins * deficit * (1 - deficit)
    win_share = (b + math.sqrt(max(0.0, b * b + 8 * n * c))) / (4 * n)
    variance = n * (2 * win_share + deficit * (1 - deficit))
    distance = wins - losses + n * deficit
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def chance_of_losses(pairs: Pairs) -> float:
    """How often two models that are equally good would come to this many losses or more, [0, 1].

    The exact test of McNemar, one-sided: where neither is better, every pair that tells them apart falls either way,
    like a coin.
    """
    tosses = pairs.losses + pairs.wins
    ways: int = 2**tosses
    return sum(math.comb(tosses, heads) for heads in range(pairs.losses, tosses + 1)) / ways
