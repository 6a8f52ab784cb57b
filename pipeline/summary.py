"""What a run found and made, for a person, for Prefect and for a script."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from pipeline.evaluate import Evaluation
from pipeline.gates.rules import parity
from pipeline.gates.verdict import Verdict, ruling
from pipeline.outcome import Outcome, Stopped
from pipeline.pages import markdown as as_markdown
from pipeline.printable import for_terminal


def verdict(outcome: Outcome | Stopped) -> str:
    """Say in one line what became of the model."""
    if isinstance(outcome, Stopped):
        return f"{outcome.name.lower()}: {outcome.reason}"
    publication = outcome.publication
    if publication is None:
        return f"Not promoted: {outcome.refusal}"
    if publication.is_new:
        forced = f", although {outcome.refusal.gate} refused it" if outcome.refusal else ""
        return f"published version {publication.version}{forced}"
    if publication.current_version == publication.version:
        return f"nothing new: the same model is version {publication.version} already"
    return (
        f"nothing new: the same model is version {publication.version} already; "
        f"version {publication.current_version} stays current"
    )


def table(outcome: Outcome) -> Table:
    """The summary as a table for a terminal."""
    shown = Table(title=for_terminal(verdict(outcome)), show_header=False, title_justify="left")
    for name, value in _rows(outcome):
        shown.add_row(for_terminal(name), for_terminal(value))
    return shown


def markdown(outcome: Outcome) -> str:
    """The summary in Markdown, for a Prefect artifact."""
    rows = as_markdown.table(("", ""), _rows(outcome))
    return f"**{as_markdown.text(verdict(outcome))}**\n\n{rows}"


def as_json(outcome: Outcome | Stopped) -> dict[str, Any]:
    """The summary as plain values for `--json`; shares in [0, 1].

    What a refused candidate has not got, a version and figures on the test images, is null.
    """
    if isinstance(outcome, Stopped):
        told = {"stopped": outcome.name, "reason": outcome.reason, "version": outcome.version}
        return {"verdict": verdict(outcome), "promoted": False, "is_new": False, **told}
    publication, test = outcome.publication, outcome.test
    return {
        "verdict": verdict(outcome),
        "promoted": publication is not None,
        "version": publication.version if publication else None,
        "is_new": publication is not None and publication.is_new,
        "current_version": publication.current_version if publication else None,
        "path": str(publication.path) if publication else None,
        "report": str(publication.report) if publication else None,
        "accuracy": test.accuracy if test else None,
        "error_rate": test.error_rate if test else None,
        "test_loss": test.loss if test else None,
        "train_loss": outcome.validation.train_loss,
        "validation_accuracy": outcome.validation.accuracy,
        "verdicts": [asdict(verdict) for verdict in outcome.verdicts],
        "forced": publication is not None and outcome.refusal is not None,
        "confirmation": outcome.confirmation,
        "training_s": outcome.training.duration_s,
        "device": outcome.training.device,
        "providers": list(outcome.verification.providers),
        "source": outcome.source,
    }


def _rows(outcome: Outcome) -> list[tuple[str, str]]:
    validation, training = outcome.validation, outcome.training
    rows = [
        *_quality(outcome.test or validation, outcome.labels),
        ("accuracy on validation images", f"{100 * validation.accuracy:.2f} % of {validation.image_count}"),
        ("trained", f"in {training.duration_s:.1f} s on {training.device}, seed {training.seed}"),
        ("data", outcome.source),
        ("verified", outcome.verification.detail),
        *((_mark(one), one.detail) for one in outcome.verdicts if one not in parity(outcome.verification)),
    ]
    if outcome.publication:
        rows.append(("version directory", str(outcome.publication.path)))
        rows.append(("report", str(outcome.publication.report)))
    if outcome.confirmation:
        rows.append(("confirmed", outcome.confirmation))
    return rows


def _quality(evaluation: Evaluation, labels: Sequence[str]) -> list[tuple[str, str]]:
    worst = min(range(len(evaluation.class_accuracy)), key=evaluation.class_accuracy.__getitem__)
    return [
        ("accuracy", f"{100 * evaluation.accuracy:.2f} % of {evaluation.image_count} {evaluation.split} images"),
        ("error rate", f"{100 * evaluation.error_rate:.2f} %"),
        ("hardest label", f"{labels[worst]}: {100 * evaluation.class_accuracy[worst]:.2f} %"),
        ("calibration error", f"{100 * evaluation.calibration_error:.2f} %"),
        (f"train loss, {evaluation.split} loss", f"{evaluation.train_loss:.4f}, {evaluation.loss:.4f} nats"),
    ]


def _mark(verdict: Verdict) -> str:
    word = ruling(verdict)
    return f"{word if verdict.passed else word.upper()}: {verdict.gate}"
