"""The run under Prefect: every step a task with a state, the result an artifact. Nothing else knows Prefect."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast
from uuid import UUID

from prefect import State, flow, task
from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from pipeline import summary
from pipeline.device import DeviceName
from pipeline.errors import FetchError
from pipeline.pages import tables
from pipeline.pages.page import data_uri
from pipeline.progress import show_progress
from pipeline.repository import REPORT, ModelRepository
from pipeline.run import Outcome, Request, run
from pipeline.train import Progress

P = ParamSpec("P")
R = TypeVar("R")

RETRIES = 2
RETRY_DELAY_S = 5
NOT_PROMOTED = "Not promoted"
PROGRESS_EVERY_S = 1.0  # an update is a call of the server


def met_the_network(_task: object, _run: object, state: State[Any]) -> bool:
    """Whether a step failed for want of a network; every other failure would come again."""
    return isinstance(state.result(raise_on_failure=False), FetchError)


def as_task(function: Callable[P, R], *, retry_delay_s: float = RETRY_DELAY_S) -> Callable[P, R]:
    """Make a Prefect task of a step: named after it, never cached (its arguments are paths and numbers)."""
    name = function.__name__
    decorate = task(
        name=name,
        task_run_name=name,
        retries=RETRIES,
        retry_delay_seconds=retry_delay_s,
        retry_jitter_factor=0.5,
        retry_condition_fn=met_the_network,
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    return decorate(function)


@flow(name="digits", flow_run_name="{model} {preset}", validate_parameters=True, persist_result=False)
def digits(
    repository: Path = Request.repository,
    model: str = Request.model,
    preset: str = Request.preset,
    device: DeviceName = Request.device,
    dataset: Path | None = Request.dataset,
    download: bool = Request.download,
    cache: Path = Request.cache,
    force: bool = Request.force,
    confirm: str | None = Request.confirm,
) -> Outcome:
    """Train, prove and publish a classifier; a candidate that a gate refuses completes as "Not promoted".

    Fetch, check, train, evaluate, export, verify, compare, rehearse, report, publish, confirm.
    """
    request = Request(repository, model, preset, device, dataset, download, cache, force, confirm)
    with show_progress() as on_progress:
        outcome = run(request, as_task, on_progress=both(on_progress, progress_artifact()))
    leave_artifacts(outcome)
    if outcome.publication is None:
        state: State[Any] = Completed(name=NOT_PROMOTED, message=str(outcome.refusal), data=outcome)
        return cast("Outcome", state)  # of a state that a flow returns, its caller gets the data
    return outcome


def both(one: Callable[[Progress], None], other: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """Tell two of every progress."""

    def on_progress(progress: Progress) -> None:
        one(progress)
        other(progress)

    return on_progress


def progress_artifact(every_s: float = PROGRESS_EVERY_S) -> Callable[[Progress], None]:
    """An artifact with the percentage of the training's steps, made at the first progress, then kept up to date."""
    artifact: UUID | None = None
    told_s = 0.0

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
