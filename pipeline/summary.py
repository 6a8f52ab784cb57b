"""What a run found and made, for a person, for Prefect and for a script."""

from typing import Any

from rich.table import Table

from pipeline.run import Outcome, Stopped


def verdict(outcome: Outcome | Stopped) -> str:
    """Say in one line what became of the model."""
    if isinstance(outcome, Stopped):
        return f"{outcome.name.lower()}: {outcome.reason}"
    publication = outcome.publication
    if publication.is_new:
        return f"published version {publication.version}"
    if publication.current_version == publication.version:
        return f"nothing new: the same model is version {publication.version} already"
    return (
        f"nothing new: the same model is version {publication.version} already; "
        f"version {publication.current_version} stays current"
    )


def table(outcome: Outcome) -> Table:
    """The summary as a table for a terminal."""
    shown = Table(title=verdict(outcome), show_header=False, title_justify="left")
    for name, value in _rows(outcome):
        shown.add_row(name, value)
    return shown


def markdown(outcome: Outcome) -> str:
    """The summary in Markdown, for a Prefect artifact."""
    lines = [f"| {name} | {value} |" for name, value in _rows(outcome)]
    return "\n".join([f"**{verdict(outcome)}**", "", "| | |", "| --- | --- |", *lines])


def as_json(outcome: Outcome | Stopped) -> dict[str, Any]:
    """The summary as plain values for `--json`; accuracy and error rate in [0, 1]."""
    if isinstance(outcome, Stopped):
        return {"stopped": outcome.name, "reason": outcome.reason, "version": outcome.version, "is_new": False}
    publication, evaluation = outcome.publication, outcome.test
    return {
        "version": publication.version,
        "is_new": publication.is_new,
        "current_version": publication.current_version,
        "path": str(publication.path),
        "accuracy": evaluation.accuracy,
        "error_rate": evaluation.error_rate,
        "train_loss": evaluation.train_loss,
        "test_loss": evaluation.loss,
        "validation_accuracy": outcome.validation.accuracy,
        "training_s": outcome.training.duration_s,
        "device": outcome.training.device,
        "providers": list(outcome.verification.providers),
        "source": outcome.source,
    }


def _rows(outcome: Outcome) -> list[tuple[str, str]]:
    evaluation, training = outcome.test, outcome.training
    worst = min(range(len(evaluation.class_accuracy)), key=evaluation.class_accuracy.__getitem__)
    return [
        ("accuracy", f"{100 * evaluation.accuracy:.2f} % of {evaluation.image_count} test images"),
        (
            "on validation images",
            f"{100 * outcome.validation.accuracy:.2f} % of {outcome.validation.image_count}",
        ),
        ("error rate", f"{100 * evaluation.error_rate:.2f} %"),
        ("hardest label", f"{worst}: {100 * evaluation.class_accuracy[worst]:.2f} %"),
        ("calibration error", f"{100 * evaluation.calibration_error:.2f} %"),
        ("train loss, test loss", f"{evaluation.train_loss:.4f}, {evaluation.loss:.4f} nats"),
        ("trained", f"in {training.duration_s:.1f} s on {training.device}, seed {training.seed}"),
        ("data", outcome.source),
        ("verified", outcome.verification.detail),
        ("version directory", str(outcome.publication.path)),
    ]
