"""The statistics of the gates: against cases worked by hand, a search by brute force, and exact enumeration."""

import math
from itertools import product
from statistics import NormalDist

import numpy as np
import pytest

from pipeline.gates.paired import Pairs, chance_of_losses, lower_bound, upper_bound

CONFIDENCE = 0.95
Z = NormalDist().inv_cdf(CONFIDENCE)


@pytest.mark.parametrize("image_count", [10, 9000])
def test_without_a_loss_or_a_win_the_bound_is_the_score_bound_of_a_share(image_count: int) -> None:
    """By hand: the likeliest share of wins is 0, so n d / sqrt(n d (1 - d)) = z, and d = z² / (n + z²)."""
    assert lower_bound(Pairs(image_count, 0, 0), CONFIDENCE) == pytest.approx(-(Z**2) / (image_count + Z**2))


def test_with_nothing_but_wins_too() -> None:
    """By hand: no pair is a tie, so n (1 - d) / sqrt(n (1 - d²)) = z, and d = (n - z²) / (n + z²)."""
    assert lower_bound(Pairs(20, 0, 20), CONFIDENCE) == pytest.approx((20 - Z**2) / (20 + Z**2))


@pytest.mark.parametrize("pairs", [Pairs(9000, 60, 44), Pairs(100, 3, 9), Pairs(50, 0, 4), Pairs(50, 4, 0)], ids=str)
def test_the_bound_is_where_the_likeliest_worse_candidate_is_z_standard_errors_away(pairs: Pairs) -> None:
    """The share of wins that maximises the likelihood is searched for here, and solved for there."""
    bound = lower_bound(pairs, CONFIDENCE)
    n, losses, wins = pairs
    shares = np.linspace(max(0.0, bound) + 1e-12, (1 + bound) / 2 - 1e-12, 2_000_001)
    likelihood = (
        wins * np.log(shares)
        + losses * np.log(np.maximum(shares - bound, 1e-300))
        + (n - losses - wins) * np.log(1 - 2 * shares + bound)
    )
    share = float(shares[likelihood.argmax()])
    variance = n * (2 * share - bound - bound**2)
    assert (wins - losses - n * bound) / math.sqrt(variance) == pytest.approx(Z, rel=1e-3)


def test_many_pairs_give_the_bound_of_the_normal_distribution() -> None:
    """d - z sqrt(losses + wins) / n, where n is large and d small."""
    pairs = Pairs(10**8, 600_000, 600_000)
    assert lower_bound(pairs, CONFIDENCE) == pytest.approx(-Z * math.sqrt(1_200_000) / 10**8, rel=1e-3)


@pytest.mark.parametrize("pairs", [Pairs(9000, 60, 44), Pairs(7, 7, 0), Pairs(7, 0, 7), Pairs(1, 0, 0)], ids=str)
def test_the_bounds_lie_around_the_difference(pairs: Pairs) -> None:
    """And mirror each other when candidate and champion change places."""
    low, high = lower_bound(pairs, CONFIDENCE), upper_bound(pairs, CONFIDENCE)
    assert -1 <= low <= pairs.difference <= high <= 1
    assert high == -lower_bound(Pairs(pairs.image_count, pairs.wins, pairs.losses), CONFIDENCE)


@pytest.mark.parametrize(
    ("loss_share", "win_share"),
    [(0.05, 0.0), (0.1, 0.05), (0.2, 0.2), (0.3, 0.1), (0.01, 0.01)],
    ids=lambda share: f"{share:g}",
)
def test_the_bound_is_wrong_about_as_often_as_it_says(loss_share: float, win_share: float) -> None:
    """Every outcome of 30 images, with its exact probability: at most 5 % wrong, and a little more."""
    n, wrong = 30, 0.0
    for losses, wins in product(range(n + 1), repeat=2):
        if losses + wins <= n and lower_bound(Pairs(n, losses, wins), CONFIDENCE) > win_share - loss_share + 1e-9:
            wrong += math.exp(log_trinomial(n, losses, wins, loss_share, win_share))
    assert wrong <= 0.06


def log_trinomial(n: int, losses: int, wins: int, loss_share: float, win_share: float) -> float:
    """The logarithm of the probability of these losses and wins among n images."""
    if wins and not win_share:
        return -math.inf
    rest = n - losses - wins
    ways = math.lgamma(n + 1) - math.lgamma(losses + 1) - math.lgamma(wins + 1) - math.lgamma(rest + 1)
    won = wins * math.log(win_share) if wins else 0.0
    return ways + losses * math.log(loss_share) + won + rest * math.log(1 - loss_share - win_share)


@pytest.mark.parametrize(
    ("losses", "wins", "expected"),
    [(0, 0, 1.0), (1, 0, 1 / 2), (3, 1, 5 / 16), (5, 0, 1 / 32), (2, 2, 11 / 16), (0, 3, 1.0)],
    ids=str,
)
def test_mcnemars_test_is_the_toss_of_a_coin(losses: int, wins: int, expected: float) -> None:
    """Worked by hand, exactly: of the 2^4 ways to fall, 4 + 1 have three losses or more."""
    assert chance_of_losses(Pairs(1000, losses, wins)) == expected


@pytest.mark.parametrize("tosses", [1, 6, 11])
def test_mcnemars_test_counts_every_way(tosses: int) -> None:
    """Each sequence of losses and wins is as likely as any other."""
    ways = [sum(way) for way in product((0, 1), repeat=tosses)]
    for losses in range(tosses + 1):
        share = sum(count >= losses for count in ways) / len(ways)
        assert chance_of_losses(Pairs(1000, losses, tosses - losses)) == share


def test_mcnemars_test_takes_thousands_of_pairs() -> None:
    """No overflow, and half for as many losses as wins."""
    assert 0.5 < chance_of_losses(Pairs(10**6, 5000, 5000)) < 0.51
