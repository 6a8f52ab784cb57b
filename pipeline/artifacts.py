"""What a run leaves in Prefect's pages: verdict, classes, confusion, progress, and where the rest lies."""

import logging
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, cast
from uuid import UUID

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from pipeline import summary
from pipeline.outcome import Outcome
from pipeline.pages import tables
from pipeline.pages.page import data_uri
from pipeline.train import Progress
from pipeline.versions.repository import REPORT, ModelRepository

P = ParamSpec("P")

logger = logging.getLogger(__name__)

PROGRESS_EVERY_S = 1.0  # an update is a call of the server


def harmless(function: Callable[P, None]) -> Callable[P, None]:
    """What a page shows is no reason for a run to fail: log why it could not be told, and go on."""

    @wraps(function)
    def wrapped(*arguments: P.args, **named: P.kwargs) -> None:
        try:
            function(*arguments, **named)
        except Exception:
            logger.warning("Prefect was not told (%s)", function.__name__, exc_info=True)

    return wrapped


def progress_artifact(every_s: float = PROGRESS_EVERY_S) -> Callable[[Progress], None]:
    """An artifact with the percentage of the training's steps, made at the first progress, then kept up to date."""
    artifact: UUID | None = None
    told_s = 0.0

    @harmless
    def on_progress(progress: Progress) -> None:
        nonlocal artifact, told_s
        percentage = 100 * progress.step / progress.steps
        is_due = time.monotonic() - told_s >= every_s or progress.step == progress.steps
        if artifact is None:
            made = create_progress_artifact(percentage, key="training", description="steps of the training")
            artifact = cast("UUID", made)  # a coroutine only for who awaits it
        elif is_due:
            update_progress_artifact(artifact, percentage)
        if is_due:
            told_s = time.monotonic()

    return on_progress


@harmless
def leave_artifacts(outcome: Outcome) -> None:
    """Leave what a person wants to see in Prefect's pages: verdict, classes, confusion, and where the rest lies."""
    create_markdown_artifact(summary.markdown(outcome), key="run", description=summary.verdict(outcome))
    if outcome.publication is None:
        return
    version = outcome.publication.path.resolve()
    classes = tables.classes(ModelRepository(version.parent).manifest(outcome.publication.version))
    rows: list[dict[str, Any]] = [dict(zip(classes.header, row, strict=True)) for row in classes.rows]
    create_table_artifact(rows, key="classes", description="each class on the test images")
    create_link_artifact(version.as_uri(), "version directory", key="version-directory")
    picture = version / REPORT / "confusion.png"
    if outcome.publication.report.is_file():  # a version of an earlier program has none
        create_link_artifact(outcome.publication.report.resolve().as_uri(), "report", key="report")
    if picture.is_file():
        create_image_artifact(data_uri(picture.read_bytes()), key="confusion", description="label by answer")
