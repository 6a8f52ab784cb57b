"""What a gate says of a candidate."""

from collections.abc import Iterable
from dataclasses import dataclass

from protos.artifact.v1 import manifest_pb2


@dataclass(frozen=True)
class Verdict:
    """Whether one gate lets a candidate pass, and why."""

    gate: str
    passed: bool
    detail: str
    """What was measured and what is demanded, in one sentence."""
    skipped: bool = False
    """Whether the gate does not apply, and lets the candidate pass for that."""

    def __str__(self) -> str:
        return f"{self.gate}: {self.detail}"


def ruling(verdict: Verdict | manifest_pb2.Verdict) -> str:
    """One word: passed, rejected or skipped."""
    if verdict.skipped or (isinstance(verdict, manifest_pb2.Verdict) and verdict.abstained):
        return "skipped"
    return "passed" if verdict.passed else "rejected"


def first_refusal(verdicts: Iterable[Verdict]) -> Verdict | None:
    """The verdict that decides: the first that does not let the candidate pass, None where all do."""
    return next((verdict for verdict in verdicts if not verdict.passed), None)
