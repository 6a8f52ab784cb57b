"""How often the gates are wrong: draws pairs of models with a known difference and asks the gates, as Markdown.

    python -m tests.benchmarks.bench_gates [DRAWS]

Nothing is trained: two models are, for the gates, the shares of images that only one of them classifies correctly.
These are the figures of docs/gates.md.
"""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import torch

from pipeline.config import Gates
from pipeline.evaluate import Evaluation, calibration_error, calibration_noise
from pipeline.gates import rules
from pipeline.gates.paired import Pairs, chance_of_regressions

DRAWS = 10_000
IMAGES = 9_000  # that MNIST's validation split has
COUNTS = (20, 60, 150, 300, 900, 1_800, IMAGES)
DISCORDANCE = {"90.0 %": 0.09, "98.8 %": 0.011, "99.6 %": 0.0037}
"""The share of images that tell two equal models apart, by their accuracy.

Measured for the default preset with seeds 0 and 1: 94 of 9,060 validation images, 116 of 10,000 test images, that is
nine tenths of the error rate; for the others the same proportion is taken.
"""
BY_LABEL = np.array([6, 8, 16, 10, 13, 13, 8, 11, 13, 18]) / 116
"""Those 116 by label: how the images that tell models apart lie among the labels."""
WORSE = (0.003, 0.01, 0.03)
MARGINS = (0.002, 0.003, 0.004, 0.005)
MNIST = ("98.8 %", "99.6 %")
LABELS = [str(label) for label in range(10)]
EVALUATION = Evaluation(0, 0, 0.95, 0.05, (), (), calibration_error=0, image_count=0, split="validation")


def draw(discordance: float, worse: float, draws: int, images: int = IMAGES) -> Iterator[Pairs]:
    """Comparisons with a candidate worse by `worse`: it improves as an equal one would, and regresses more by that."""
    shares = [discordance / 2 + worse, discordance / 2, 1 - discordance - worse]
    for regressions, improvements, _ in np.random.default_rng(0).multinomial(images, shares, draws):
        yield Pairs(images, int(regressions), int(improvements))


def champion_passes(discordance: float, worse: float, gates: Gates, draws: int, images: int = IMAGES) -> float:
    """The share of such candidates that the champion gate lets pass, or is skipped for."""
    passed = cache(lambda pairs: rules.champion(pairs, 1, gates).passed)
    return float(np.mean([passed(pairs) for pairs in draw(discordance, worse, draws, images)]))


def proven_worse_rule_passes(discordance: float, worse: float, gates: Gates, draws: int) -> float:
    """The same under the rule that was not taken: reject only what is proved to be worse."""
    passed = cache(lambda pairs: chance_of_regressions(pairs) >= 1 - gates.confidence)
    return float(np.mean([passed(pairs) for pairs in draw(discordance, worse, draws)]))


def classes_pass(discordance: float, label_worse: float, gates: Gates, draws: int) -> float:
    """The share of candidates that the classes gate lets pass; one label, of middling difficulty, is worse."""
    by_label = np.array(BY_LABEL * discordance * IMAGES)  # images that tell the models apart, as expected
    random = np.random.default_rng(1)
    count = IMAGES // len(LABELS)
    worse = np.zeros(len(LABELS))
    worse[7] = label_worse
    regressions = random.binomial(count, by_label / 2 / count + worse, (draws, len(LABELS)))
    improvements = random.binomial(count, by_label / 2 / count, (draws, len(LABELS)))
    passed = 0
    for lost, won in zip(regressions, improvements, strict=True):
        pairs = [Pairs(count, int(one), int(other)) for one, other in zip(lost, won, strict=True)]
        passed += rules.classes(pairs, LABELS, gates).passed
    return passed / draws


def calibration_passes(overconfidence: float, gates: Gates, draws: int, images: int) -> float:
    """The share of candidates that the calibration gate lets pass; each claims too much by `overconfidence`."""
    random, passed = np.random.default_rng(2), 0
    for _ in range(draws):
        confidence = 0.1 + 0.9 * random.beta(9.5, 0.5, images)
        is_right = torch.from_numpy(random.random(images) < confidence - overconfidence)
        claimed = torch.from_numpy(confidence)
        error, noise = calibration_error(claimed, is_right), calibration_noise(claimed)
        measured = replace(EVALUATION, calibration_error=error, calibration_noise=noise, image_count=images)
        passed += rules.calibration(measured, gates).passed
    return passed / draws


def print_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print it in Markdown, each row as soon as it is known."""
    names = list(header)
    print(f"\n| {' | '.join(names)} |\n|{' --- |' * len(names)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def champion_row(name: str, images: int, gates: Gates, draws: int) -> tuple[str, ...]:
    """How often the champion gate rejects what is equal and passes what is worse."""
    equal, *worse = (champion_passes(DISCORDANCE[name], by, gates, draws, images) for by in (0.0, *WORSE))
    return name, f"{images:,}", f"{1 - equal:.1%}", *(f"{share:.1%}" for share in worse)


def margin_row(name: str, margin: float, draws: int) -> tuple[str, ...]:
    """The same for another margin, on MNIST's images."""
    equal, worse = (champion_passes(DISCORDANCE[name], by, Gates(margin=margin), draws) for by in (0.0, WORSE[0]))
    return name, f"{100 * margin:.1f} points", f"{1 - equal:.1%}", f"{worse:.1%}"


def proven_worse_row(name: str, draws: int) -> tuple[str, ...]:
    """The same for the rule that was not taken."""
    equal, worse = (proven_worse_rule_passes(DISCORDANCE[name], by, Gates(), draws) for by in (0.0, WORSE[0]))
    return name, "reject only what is proved worse", f"{1 - equal:.1%}", f"{worse:.1%}"


def classes_row(name: str, draws: int) -> tuple[str, ...]:
    """The same for the classes gate."""
    equal, three, five = (classes_pass(DISCORDANCE[name], by, Gates(), draws) for by in (0.0, 0.03, 0.05))
    return name, f"{1 - equal:.2%}", f"{three:.1%}", f"{five:.2%}"


def calibration_row(images: int, draws: int) -> tuple[str, ...]:
    """The same for the calibration gate; a candidate of about 95 %."""
    calibrated, ten, twenty = (calibration_passes(by, Gates(), draws, images) for by in (0.0, 0.1, 0.2))
    return f"{images:,}", f"{1 - calibrated:.1%}", f"{ten:.1%}", f"{twenty:.1%}"


def main(draws: int) -> None:
    """Print every table."""
    print(f"{draws:,} draws; default gates but for the margin")
    passed = [f"passed though {100 * by:g} points worse" for by in WORSE]
    print_table(
        ("models of", "images", "rejected though equal", *passed),
        (champion_row(name, images, Gates(), draws) for name in DISCORDANCE for images in COUNTS),
    )
    print_table(
        ("models of", "margin", "rejected though equal", passed[0]),
        (margin_row(name, margin, draws) for name in MNIST for margin in MARGINS),
    )
    print_table(
        ("models of", "rule", "rejected though equal", passed[0]), (proven_worse_row(name, draws) for name in MNIST)
    )
    print_table(
        ("models of", "rejected though equal", "passed though one label is worse by 3 points", "by 5 points"),
        (classes_row(name, draws) for name in MNIST),
    )
    print_table(
        ("images", "rejected though calibrated", "passed though overconfident by 10 points", "by 20 points"),
        (calibration_row(images, draws // 10) for images in COUNTS),
    )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else DRAWS)
