"""What a run published, for tests that need a version."""

from pipeline.evaluate import Evaluation
from pipeline.publish import Publication
from pipeline.run import Outcome


def published(outcome: Outcome) -> Publication:
    """The publication of a run that no gate refused."""
    if outcome.publication is None:
        raise AssertionError(f"the candidate was refused: {outcome.refusal}")
    return outcome.publication


def evaluated(outcome: Outcome) -> Evaluation:
    """The quality on the test images of a run that no gate refused."""
    if outcome.test is None:
        raise AssertionError(f"the candidate was refused: {outcome.refusal}")
    return outcome.test
