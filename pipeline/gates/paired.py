"""Whether one model is worse than another, from their answers to the same images.

Only the images that exactly one of the two classifies correctly tell them apart: the regressions, which only the
champion classifies correctly, and the improvements, which only the candidate does.
"""

import math
from bisect import bisect_left
from functools import cache
from statistics import NormalDist
from typing import NamedTuple

BISECTIONS = 60  # to the last bit of a float
MOST_IMAGES = 10**9  # where the search for the number of images that a proof needs ends


class Pairs(NamedTuple):
    """What two models' answers to the same images come to."""

    image_count: int
    regressions: int
    improvements: int

    @property
    def difference(self) -> float:
        """The candidate's accuracy less the champion's, [-1, 1]; 0 where there are no images."""
        return (self.improvements - self.regressions) / max(1, self.image_count)


def lower_bound(pairs: Pairs, confidence: float) -> float:
    """What the true difference of the accuracies lies above, with this confidence: Tango's score bound.

    It holds for few regressions and improvements too, also for none, where bounds built from an estimated variance say
    nothing (Tango, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design", 1998).
    """
    z = NormalDist().inv_cdf(confidence)
    low, high = -pairs.difference, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if _score(pairs, middle) < z else (low, middle)
    return -high


def provable_margin(image_count: int, discordant_count: int, confidence: float, power: float) -> float:
    """The smallest margin that equal models prove with probability `power` or more.

    `discordant_count` is the number of regressions and improvements together.
    """
    regressions = likely_regressions(discordant_count, power)
    return -lower_bound(Pairs(image_count, regressions, discordant_count - regressions), confidence)


@cache
def images_to_prove(margin: float, discordance: float, confidence: float, power: float) -> int:
    """The number of images on which equal models prove `margin` with probability `power`, about.

    `discordance` is the share of images that are regressions or improvements, [0, 1].
    """

    def proves(count: int) -> bool:
        return provable_margin(count, round(discordance * count), confidence, power) <= margin

    return bisect_left(range(MOST_IMAGES), True, lo=1, key=proves)


def likely_regressions(discordant_count: int, power: float) -> int:
    """The number of regressions that equal models do not exceed, with probability `power`.

    Each image that tells equal models apart is a regression or an improvement with probability 1/2: this is the
    quantile of that binomial distribution, from the normal one with a continuity correction.
    """
    quantile = (discordant_count + NormalDist().inv_cdf(power) * math.sqrt(discordant_count)) / 2
    return min(discordant_count, math.ceil(quantile - 0.5))


def _score(pairs: Pairs, deficit: float) -> float:
    """How many standard errors the difference lies above that of a candidate which is worse by `deficit`, [-1, 1]."""
    n, regressions, improvements = pairs
    # The likeliest share of improvements among all pairs with this deficit: the root of 2n p² - b p - c = 0.
    b = regressions + improvements + deficit * (regressions - improvements - 2 * n)
    c = improvements * deficit * (1 - deficit)
    improvement_share = (b + math.sqrt(max(0.0, b * b + 8 * n * c))) / (4 * n)
    variance = n * (2 * improvement_share + deficit * (1 - deficit))
    distance = improvements - regressions + n * deficit
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def chance_of_regressions(pairs: Pairs) -> float:
    """How often two models that are equally good would come to this many regressions or more, [0, 1].

    The exact test of McNemar, one-sided: where neither is better, every pair that tells them apart falls either way,
    like a coin.
    """
    tosses = pairs.regressions + pairs.improvements
    ways: int = 2**tosses
    return sum(math.comb(tosses, heads) for heads in range(pairs.regressions, tosses + 1)) / ways
