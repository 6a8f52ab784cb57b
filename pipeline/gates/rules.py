"""The gates: what was measured of a candidate, in; a verdict with its figures, out. Each is one function."""

import math
from collections.abc import Sequence

from pipeline.config import Gates
from pipeline.evaluate import Evaluation
from pipeline.gates.paired import Pairs, chance_of_regressions, images_to_prove, lower_bound, provable_margin
from pipeline.gates.verdict import Verdict
from pipeline.verify import Verification

POWER = 0.8
"""The share of equal candidates that pass the champion gate at least: the usual power of a trial (ICH E9, 3.5)."""
WIDEST_MARGIN = 0.1
"""If identical answers cannot prove this margin, passing means nothing: the default floor allows no larger fall."""


def parity(verification: Verification) -> tuple[Verdict, ...]:
    """That the file answers as PyTorch on each provider; where it did not, `verify` has failed the run before."""
    return tuple(
        Verdict(
            f"parity on {one.who}",
            True,
            f"{one.image_count} images as PyTorch answers them: logits within {one.distance.logits:.1e} of the largest "
            f"one, probabilities within {one.distance.probabilities:.1e}",
        )
        for one in verification.parities
    )


def floor(validation: Evaluation, gates: Gates) -> Verdict:
    """No candidate below this accuracy, whatever the champion does."""
    return Verdict(
        "floor",
        validation.accuracy >= gates.floor,
        f"{_percent(validation.accuracy)} of {validation.image_count} validation images are classified correctly, "
        f"required at least {_percent(gates.floor)}",
    )


def calibration(validation: Evaluation, gates: Gates) -> Verdict:
    """No candidate whose probabilities promise too much or too little, by more than the noise of few images."""
    error, limit = validation.calibration_error, max(gates.calibration, validation.calibration_noise)
    detail = f"the expected calibration error is {_percent(error)}, required at most {_percent(limit)}"
    if limit > gates.calibration:
        enough = math.ceil(validation.image_count * (limit / gates.calibration) ** 2)
        detail += (
            f". {validation.image_count} images cannot prove the preset's {_percent(gates.calibration)} (about "
            f"{_about(enough)} could): there chance alone takes a perfectly calibrated model to {_percent(limit)}"
        )
    return Verdict("calibration", error <= limit, detail)


def champion(pairs: Pairs, version: int, gates: Gates) -> Verdict:
    """The candidate must prove that it is not worse than the champion by the margin, as far as the images allow.

    The proof is its own: publishing changes what callers get, while rejecting changes nothing. The margin is the
    preset's or, where that is larger, the smallest one that POWER of equal candidates prove which differ from the
    champion on as many images. So at most 1 - POWER of equal candidates are rejected, however few the images are.
    """
    count, discordant_count = pairs.image_count, pairs.regressions + pairs.improvements
    margin = max(gates.margin, provable_margin(count, discordant_count, gates.confidence, POWER))
    low = lower_bound(pairs, gates.confidence)
    passed = low >= -margin
    detail = (
        f"on {count} images {pairs.regressions} regress and {pairs.improvements} improve against version {version}, "
        f"{_points(pairs.difference)} points; with {100 * gates.confidence:g} % confidence the difference is above "
        f"{_points(low)}, required at least {_points(-margin)}"
    )
    if passed and provable_margin(count, 0, gates.confidence, POWER) > WIDEST_MARGIN:
        fewest = images_to_prove(WIDEST_MARGIN, 0, gates.confidence, POWER)
        reason = f"warning: {count} images are too few to prove anything, expected at least {fewest}"
        return Verdict("champion", passed, f"{reason}; {detail}", skipped=True)
    if margin > gates.margin:
        enough = images_to_prove(gates.margin, discordant_count / count, gates.confidence, POWER)
        detail += (
            f". {count} images cannot prove the preset's margin of {_points(gates.margin, '')} points (about "
            f"{_about(enough)} could), so the margin is {_points(margin, '')}, which {100 * POWER:g} % of equal "
            "candidates prove"
        )
    return Verdict("champion", passed, detail)


def classes(by_class: Sequence[Pairs], labels: Sequence[str], gates: Gates) -> Verdict:
    """No label may regress by more than its margin, unless chance alone may have done it.

    Here the proof is the gate's: on a tenth of the images an equal candidate could hardly prove itself ten times. Over
    all labels together, at most 1 - confidence of equal candidates are rejected (Bonferroni over exact tests).
    """
    allowed = (1 - gates.confidence) / len(by_class)
    is_lost = [-pairs.difference > gates.class_margin and chance_of_regressions(pairs) < allowed for pairs in by_class]
    worst = max(range(len(by_class)), key=lambda index: (is_lost[index], -by_class[index].difference))
    pairs = by_class[worst]
    detail = (
        f"label {labels[worst]} does worst: of its {pairs.image_count} images {pairs.regressions} regress and "
        f"{pairs.improvements} improve, {_points(pairs.difference)} points, which equal models reach with probability "
        f"{chance_of_regressions(pairs):.2g}; rejected is a fall of more than {_points(gates.class_margin, '')} points "
        f"with a probability below {allowed:.2g}"
    )
    fewest = math.floor(-math.log2(allowed)) + 1  # that many regressions without an improvement are rarer than allowed
    too_few = [label for label, pairs in zip(labels, by_class, strict=True) if pairs.image_count < fewest]
    if len(too_few) == len(by_class):
        return Verdict(
            "classes", True, f"warning: no label has the {fewest} images that could show a fall", skipped=True
        )
    if too_few:
        detail += f". Labels with fewer than {fewest} images, too few to show a fall: {', '.join(too_few)}"
    return Verdict("classes", not any(is_lost), detail)


def size(candidate_bytes: int, champion_bytes: int, gates: Gates) -> Verdict:
    """The file may not grow without limit."""
    ratio = candidate_bytes / champion_bytes
    return Verdict(
        "size",
        ratio <= gates.size_ratio,
        f"the ONNX file has {candidate_bytes} bytes, {ratio:.2f} times the champion's {champion_bytes}, "
        f"required at most {gates.size_ratio:g} times",
    )


def latency(candidate_s: float, champion_s: float, image_count: int, gates: Gates) -> Verdict:
    """Nor may the time that a run takes."""
    ratio = candidate_s / champion_s
    return Verdict(
        "latency",
        ratio <= gates.latency_ratio,
        f"{image_count} images take {1000 * candidate_s:.3g} ms on one thread, {ratio:.2f} times the champion's "
        f"{1000 * champion_s:.3g} ms, required at most {gates.latency_ratio:g} times",
    )


def not_compared(reason: str) -> tuple[Verdict, ...]:
    """The verdicts of the gates that need a champion, where there is none to compare with."""
    gates, detail = ("champion", "classes", "size", "latency"), f"not compared: {reason}"
    return tuple(Verdict(gate, True, detail, skipped=True) for gate in gates)


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _about(count: int) -> str:
    """Two significant digits."""
    return f"{round(count, 2 - len(str(count))):,}"


def _points(difference: float, sign: str = "+") -> str:
    return f"{100 * difference:{sign}.2f}"
