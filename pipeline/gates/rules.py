"""The gates: what was measured of a candidate, in; a verdict with its figures, out. Each is one function."""

from collections.abc import Sequence

from pipeline.config import Gates
from pipeline.evaluate import Evaluation
from pipeline.gates.paired import Pairs, chance_of_losses, lower_bound, upper_bound
from pipeline.gates.verdict import Verdict
from pipeline.verify import Verification


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
        f"{_percent(validation.accuracy)} of {validation.image_count} validation images are labelled rightly, "
        f"expected at least {_percent(gates.floor)}",
    )


def calibration(validation: Evaluation, gates: Gates) -> Verdict:
    """No candidate whose probabilities promise too much or too little."""
    return Verdict(
        "calibration",
        validation.calibration_error <= gates.calibration,
        f"the expected calibration error is {_percent(validation.calibration_error)}, "
        f"expected at most {_percent(gates.calibration)}",
    )


def champion(pairs: Pairs, version: int, gates: Gates) -> Verdict:
    """The candidate must prove that it is not worse than the champion by the margin or more.

    The proof is its own: publishing changes what callers get, while refusing changes nothing. So of candidates that are
    worse by the margin, at most 1 - confidence pass; how many equal ones are refused depends on the number of images.
    """
    low, high = lower_bound(pairs, gates.confidence), upper_bound(pairs, gates.confidence)
    best = lower_bound(Pairs(pairs.image_count, losses=0, wins=0), gates.confidence)
    chance = f"equal models lose that many or more with probability {chance_of_losses(pairs):.2g}, McNemar's exact test"
    hint = "" if best > -gates.margin else "; so few images cannot prove it even of equal answers: raise gates.margin"
    return Verdict(
        "champion",
        low > -gates.margin,
        f"on the same {pairs.image_count} images {pairs.losses} are lost to version {version} and {pairs.wins} won, a "
        f"difference of {_points(pairs.difference)} points ({chance}); with {100 * gates.confidence:g} % confidence it "
        f"is above {_points(low)} (and below {_points(high)}), expected above {_points(-gates.margin)}{hint}",
    )


def classes(by_class: Sequence[Pairs], labels: Sequence[str], gates: Gates) -> Verdict:
    """No label may lose more than its margin, unless chance alone may have done it.

    Here the proof is the gate's: on a tenth of the images an equal candidate could hardly prove itself ten times. Over
    all labels together, at most 1 - confidence of equal candidates are refused (Bonferroni over exact tests).
    """
    allowed = (1 - gates.confidence) / len(by_class)
    is_lost = [-pairs.difference > gates.class_margin and chance_of_losses(pairs) < allowed for pairs in by_class]
    worst = max(range(len(by_class)), key=lambda index: (is_lost[index], -by_class[index].difference))
    pairs = by_class[worst]
    return Verdict(
        "classes",
        not any(is_lost),
        f"label {labels[worst]} does worst: of its {pairs.image_count} images {pairs.losses} are lost and {pairs.wins} "
        f"won, a difference of {_points(pairs.difference)} points, which equal models reach with probability "
        f"{chance_of_losses(pairs):.2g}; refused are losses of more than {_points(gates.class_margin, '')} points with "
        f"a probability below {allowed:.2g}",
    )


def size(candidate_bytes: int, champion_bytes: int, gates: Gates) -> Verdict:
    """The file may not grow without limit."""
    ratio = candidate_bytes / champion_bytes
    return Verdict(
        "size",
        ratio <= gates.size_ratio,
        f"the ONNX file has {candidate_bytes} bytes, {ratio:.2f} times the champion's {champion_bytes}, "
        f"expected at most {gates.size_ratio:g} times",
    )


def latency(candidate_s: float, champion_s: float, image_count: int, gates: Gates) -> Verdict:
    """Nor may the time that a run takes."""
    ratio = candidate_s / champion_s
    return Verdict(
        "latency",
        ratio <= gates.latency_ratio,
        f"{image_count} images take {1000 * candidate_s:.3g} ms on one thread, {ratio:.2f} times the champion's "
        f"{1000 * champion_s:.3g} ms, expected at most {gates.latency_ratio:g} times",
    )


def not_compared(reason: str) -> tuple[Verdict, ...]:
    """The verdicts of the gates that need a champion, where there is none to compare with."""
    gates, detail = ("champion", "classes", "size", "latency"), f"not compared: {reason}"
    return tuple(Verdict(gate, True, detail, abstained=True) for gate in gates)


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _points(difference: float, sign: str = "+") -> str:
    return f"{100 * difference:{sign}.2f}"
