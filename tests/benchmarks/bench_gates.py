"""How often the gates are wrong: draws pairs of models with a known difference and asks the gates, as Markdown.

    python -m tests.benchmarks.bench_gates [DRAWS]

Nothing is trained: two models are, for the gates, the shares of images that one of them labels rightly and the other
wrongly. These are the figures of docs/gates.md.
"""

import sys
from collections.abc import Iterator
from functools import cache

import numpy as np

from pipeline.config import Gates
from pipeline.gates import rules
from pipeline.gates.paired import Pairs, chance_of_losses

DRAWS = 10_000
IMAGES = 9_000  # that MNIST's validation split has
DISCORDANCE = {"98.8 %": 0.011, "99.6 %": 0.0037}
"""The share of images that tell two equal models apart, by their accuracy.

Measured for the default preset with seeds 0 and 1: 94 of 9,060 validation images, 116 of 10,000 test images, that is
nine tenths of the error rate; for better models the same proportion is taken.
"""
BY_LABEL = np.array([6, 8, 16, 10, 13, 13, 8, 11, 13, 18]) / 116
"""Those 116 by label: how the images that tell models apart lie among the labels."""
WORSE = 0.003
MARGINS = (0.002, 0.003, 0.004, 0.005)
LABELS = [str(label) for label in range(10)]


def draw(discordance: float, worse: float, draws: int, images: int = IMAGES) -> Iterator[Pairs]:
    """Comparisons with a candidate that is worse by `worse`: it wins as an equal one would, and loses so much more."""
    shares = [discordance / 2 + worse, discordance / 2, 1 - discordance - worse]
    for losses, wins, _ in np.random.default_rng(0).multinomial(images, shares, draws):
        yield Pairs(images, int(losses), int(wins))


def champion_passes(discordance: float, worse: float, gates: Gates, draws: int) -> float:
    """The share of such candidates that the champion gate lets pass."""
    passed = cache(lambda pairs: rules.champion(pairs, 1, gates).passed)
    return float(np.mean([passed(pairs) for pairs in draw(discordance, worse, draws)]))


def proven_worse_rule_passes(discordance: float, worse: float, gates: Gates, draws: int) -> float:
    """The same under the rule that was not taken: refuse only what is proved to be worse."""
    passed = cache(lambda pairs: chance_of_losses(pairs) >= 1 - gates.confidence)
    return float(np.mean([passed(pairs) for pairs in draw(discordance, worse, draws)]))


def classes_pass(discordance: float, label_worse: float, gates: Gates, draws: int) -> float:
    """The share of candidates that the classes gate lets pass; one label, of middling difficulty, is worse."""
    by_label = np.array(BY_LABEL * discordance * IMAGES)  # images that tell the models apart, as expected
    random = np.random.default_rng(1)
    count = IMAGES // len(LABELS)
    worse = np.zeros(len(LABELS))
    worse[7] = label_worse
    losses = random.binomial(count, by_label / 2 / count + worse, (draws, len(LABELS)))
    wins = random.binomial(count, by_label / 2 / count, (draws, len(LABELS)))
    passed = 0
    for lost, won in zip(losses, wins, strict=True):
        pairs = [Pairs(count, int(one), int(other)) for one, other in zip(lost, won, strict=True)]
        passed += rules.classes(pairs, LABELS, gates).passed
    return passed / draws


def main(draws: int) -> None:
    """Print both tables."""
    print(f"{draws:,} draws of {IMAGES:,} images; default gates but for the margin\n")
    print(
        "| models of | margin | refused though equal | passed though 0.3 points worse | passed, worse by the margin |"
    )
    print("| --- | --- | --- | --- | --- |")
    for name, discordance in DISCORDANCE.items():
        for margin in MARGINS:
            gates = Gates(margin=margin)
            equal, worse, at_margin = (champion_passes(discordance, by, gates, draws) for by in (0.0, WORSE, margin))
            print(f"| {name} | {100 * margin:.1f} points | {1 - equal:.1%} | {worse:.1%} | {at_margin:.1%} |")
        equal, worse = (proven_worse_rule_passes(discordance, by, Gates(), draws) for by in (0.0, WORSE))
        print(f"| {name} | refuse only what is proved worse | {1 - equal:.1%} | {worse:.1%} | |")
    print("\n| models of | refused though equal | passed though one label is worse by 3 points | by 5 points |")
    print("| --- | --- | --- | --- |")
    for name, discordance in DISCORDANCE.items():
        equal, three, five = (classes_pass(discordance, by, Gates(), draws) for by in (0.0, 0.03, 0.05))
        print(f"| {name} | {1 - equal:.2%} | {three:.1%} | {five:.2%} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else DRAWS)
