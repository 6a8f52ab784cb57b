"""What a run published, for tests that need a version."""

from pipeline.evaluate import Evaluation
from pipeline.outcome import Outcome, Stopped
from pipeline.publish import Publication


def published(outcome: Outcome | Stopped) -> Publication:
    """The publication of a run that no gate refused."""
    outcome = ended(outcome)
    if outcome.publication is None:
        raise AssertionError(f"the candidate was refused: {outcome.refusal}")
    return outcome.publication


def evaluated(outcome: Outcome | Stopped) -> Evaluation:
    """The quality on the test images of a run that no gate refused."""
    outcome = ended(outcome)
    if outcome.test is None:
        raise AssertionError(f"the candidate was refused: {outcome.refusal}")
    return outcome.test


def ended(outcome: Outcome | Stopped) -> Outcome:
    """The outcome of a run that trained."""
    if isinstance(outcome, Stopped):
        raise AssertionError(f"{outcome.name}: {outcome.reason}")  # noqa: TRY004 - what a test expected
    return outcome
