"""The statistics of the gates: against cases worked by hand, a search by brute force, and exact enumeration."""

import math
from functools import cache
from itertools import accumulate, product
from statistics import NormalDist

import numpy as np
import pytest

from pipeline.gates.paired import (
    Pairs,
    chance_of_regressions,
    images_to_prove,
    likely_regressions,
    lower_bound,
    provable_margin,
)

CONFIDENCE = 0.95
POWER = 0.8
Z = NormalDist().inv_cdf(CONFIDENCE)


@pytest.mark.parametrize("image_count", [10, 9000])
def test_without_a_regression_or_an_improvement_the_bound_is_the_score_bound_of_a_share(image_count: int) -> None:
    """By hand: the likeliest share of improvements is 0, so n d / sqrt(n d (1 - d)) = z, and d = z² / (n + z²)."""
    assert lower_bound(Pairs(image_count, 0, 0), CONFIDENCE) == pytest.approx(-(Z**2) / (image_count + Z**2))


def test_with_nothing_but_wins_too() -> None:
    """By hand: no pair is a tie, so n (1 - d) / sqrt(n (1 - d²)) = z, and d = (n - z²) / (n + z²)."""
    assert lower_bound(Pairs(20, 0, 20), CONFIDENCE) == pytest.approx((20 - Z**2) / (20 + Z**2))


@pytest.mark.parametrize("pairs", [Pairs(9000, 60, 44), Pairs(100, 3, 9), Pairs(50, 0, 4), Pairs(50, 4, 0)], ids=str)
def test_the_bound_is_where_the_likeliest_worse_candidate_is_z_standard_errors_away(pairs: Pairs) -> None:
    """The share of improvements that maximises the likelihood is searched for here, and solved for there."""
    bound = lower_bound(pairs, CONFIDENCE)
    n, regressions, improvements = pairs
    shares = np.linspace(max(0.0, bound) + 1e-12, (1 + bound) / 2 - 1e-12, 2_000_001)
    likelihood = (
        improvements * np.log(shares)
        + regressions * np.log(np.maximum(shares - bound, 1e-300))
        + (n - regressions - improvements) * np.log(1 - 2 * shares + bound)
    )
    share = float(shares[likelihood.argmax()])
    variance = n * (2 * share - bound - bound**2)
    assert (improvements - regressions - n * bound) / math.sqrt(variance) == pytest.approx(Z, rel=1e-3)


def test_many_pairs_give_the_bound_of_the_normal_distribution() -> None:
    """d - z sqrt(regressions + improvements) / n, where n is large and d small."""
    pairs = Pairs(10**8, 600_000, 600_000)
    assert lower_bound(pairs, CONFIDENCE) == pytest.approx(-Z * math.sqrt(1_200_000) / 10**8, rel=1e-3)


def test_equal_models_have_at_most_the_likely_number_of_regressions() -> None:
    """The smallest number that they do not exceed with this probability, counted over every way to fall."""
    for discordant_count in range(300):
        ways = [math.comb(discordant_count, regressions) for regressions in range(discordant_count + 1)]
        shares = [share / 2**discordant_count for share in accumulate(ways)]
        assert likely_regressions(discordant_count, POWER) == next(
            number for number, share in enumerate(shares) if share >= POWER
        )


@pytest.mark.parametrize(("image_count", "expected"), [(20, 0.119), (60, 0.0431), (900, 0.0030)], ids=str)
def test_identical_answers_prove_the_score_bound_of_a_share(image_count: int, expected: float) -> None:
    """By hand: z² / (n + z²), whatever the power."""
    assert provable_margin(image_count, 0, CONFIDENCE, POWER) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(("margin", "expected"), [(0.1, 25), (0.003, 900), (0.03, 88)], ids=str)
def test_the_images_that_identical_answers_need_are_counted(margin: float, expected: int) -> None:
    """By hand: n ≥ z² (1 - margin) / margin, to the image."""
    assert images_to_prove(margin, 0, CONFIDENCE, POWER) == expected == math.ceil(Z**2 * (1 - margin) / margin)


@pytest.mark.parametrize("discordance", [0.0004, 0.0037, 0.011, 0.09])
def test_the_images_that_other_models_need_are_counted(discordance: float) -> None:
    """On as many images equal models prove the margin with the power asked for, and not on 85 % of them."""
    count = images_to_prove(0.003, discordance, CONFIDENCE, POWER)
    assert proving(round(0.85 * count), discordance) < POWER <= proving(count, discordance) + 0.05


def proving(image_count: int, discordance: float) -> float:
    """The share of equal models that prove a margin of 0.3 points, by simulation."""
    draws = np.random.default_rng(0).multinomial(image_count, [discordance / 2, discordance / 2, 1 - discordance], 2000)
    proved = cache(lambda lost, won: lower_bound(Pairs(image_count, lost, won), CONFIDENCE) > -0.003)
    return float(np.mean([proved(int(lost), int(won)) for lost, won, _ in draws]))


@pytest.mark.parametrize(
    ("regression_share", "improvement_share"),
    [(0.05, 0.0), (0.1, 0.05), (0.2, 0.2), (0.3, 0.1), (0.01, 0.01)],
    ids=lambda share: f"{share:g}",
)
def test_the_bound_is_wrong_about_as_often_as_it_says(regression_share: float, improvement_share: float) -> None:
    """Every outcome of 30 images, with its exact probability: at most 5 % wrong, and a little more."""
    n, wrong = 30, 0.0
    for regressions, improvements in product(range(n + 1), repeat=2):
        if (
            regressions + improvements <= n
            and lower_bound(Pairs(n, regressions, improvements), CONFIDENCE)
            > improvement_share - regression_share + 1e-9
        ):
            wrong += math.exp(log_trinomial(n, regressions, improvements, regression_share, improvement_share))
    assert wrong <= 0.06


def log_trinomial(
    n: int, regressions: int, improvements: int, regression_share: float, improvement_share: float
) -> float:
    """The logarithm of the probability of these regressions and improvements among n images."""
    if improvements and not improvement_share:
        return -math.inf
    rest = n - regressions - improvements
    ways = math.lgamma(n + 1) - math.lgamma(regressions + 1) - math.lgamma(improvements + 1) - math.lgamma(rest + 1)
    won = improvements * math.log(improvement_share) if improvements else 0.0
    return (
        ways
        + regressions * math.log(regression_share)
        + won
        + rest * math.log(1 - regression_share - improvement_share)
    )


@pytest.mark.parametrize(
    ("regressions", "improvements", "expected"),
    [(0, 0, 1.0), (1, 0, 1 / 2), (3, 1, 5 / 16), (5, 0, 1 / 32), (2, 2, 11 / 16), (0, 3, 1.0)],
    ids=str,
)
def test_mcnemars_test_is_the_toss_of_a_coin(regressions: int, improvements: int, expected: float) -> None:
    """Worked by hand, exactly: of the 2^4 ways to fall, 4 + 1 have three regressions or more."""
    assert chance_of_regressions(Pairs(1000, regressions, improvements)) == expected


@pytest.mark.parametrize("tosses", [1, 6, 11])
def test_mcnemars_test_counts_every_way(tosses: int) -> None:
    """Each sequence of regressions and improvements is as likely as any other."""
    ways = [sum(way) for way in product((0, 1), repeat=tosses)]
    for regressions in range(tosses + 1):
        share = sum(count >= regressions for count in ways) / len(ways)
        assert chance_of_regressions(Pairs(1000, regressions, tosses - regressions)) == share


def test_mcnemars_test_takes_thousands_of_pairs() -> None:
    """No overflow, and half for as many regressions as improvements."""
    assert 0.5 < chance_of_regressions(Pairs(10**6, 2000, 2000)) < 0.51
