"""What a gate says of a candidate."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """Whether one gate lets a candidate pass, and why."""

    gate: str
    passed: bool
    detail: str
    """What was measured and what is demanded, in one sentence."""

    def __str__(self) -> str:
        return f"{self.gate}: {self.detail}"


def first_refusal(verdicts: Iterable[Verdict]) -> Verdict | None:
    """The verdict that decides: the first that does not let the candidate pass, None where all do."""
    return next((verdict for verdict in verdicts if not verdict.passed), None)
