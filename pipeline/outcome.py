"""What comes of a run."""

from dataclasses import dataclass
from typing import Literal

from pipeline.evaluate import Evaluation
from pipeline.gates.verdict import Verdict, first_refusal
from pipeline.publish import Publication
from pipeline.train import TrainingResult
from pipeline.verify import Verification


@dataclass(frozen=True)
class Outcome:
    """What a run found and made."""

    source: str
    """Where the data came from."""
    labels: tuple[str, ...]
    """The names of its classes."""
    training: TrainingResult
    validation: Evaluation
    verification: Verification
    verdicts: tuple[Verdict, ...]
    """What every gate said."""
    test: Evaluation | None = None
    """None where a gate rejected the candidate: the test images are not read for it."""
    publication: Publication | None = None
    """None where a gate rejected the candidate."""
    confirmation: str | None = None
    """What the server said that was asked; None where none was."""

    @property
    def refusal(self) -> Verdict | None:
        """The gate that decided against the candidate; it is published all the same where force was asked for."""
        return first_refusal(self.verdicts)


@dataclass(frozen=True)
class Stopped:
    """A run that ended early, and correctly: it trained nothing."""

    name: Literal["Up to date", "Skipped"]
    reason: str
    version: int = 0
    """The version that is there already, 0 for none."""
