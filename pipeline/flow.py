"""The run under Prefect: every step a task with a state, the result an artifact. Nothing else knows Prefect."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from prefect import State, flow, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from pipeline import summary
from pipeline.device import DeviceName
from pipeline.errors import FetchError
from pipeline.progress import show_progress
from pipeline.run import Outcome, Request, run

P = ParamSpec("P")
R = TypeVar("R")

RETRIES = 2
RETRY_DELAY_S = 5
NOT_PROMOTED = "Not promoted"


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
    """Train, prove and publish a digit classifier; a candidate that a gate refuses completes as "Not promoted".

    Fetch, check, train, evaluate, export, verify, compare, rehearse, publish, confirm.
    """
    request = Request(repository, model, preset, device, dataset, download, cache, force, confirm)
    with show_progress() as on_progress:
        outcome = run(request, as_task, on_progress=on_progress)
    create_markdown_artifact(summary.markdown(outcome), key="run", description=summary.verdict(outcome))
    if outcome.publication is None:
        state: State[Any] = Completed(name=NOT_PROMOTED, message=str(outcome.refusal), data=outcome)
        return cast("Outcome", state)  # of a state that a flow returns, its caller gets the data
    create_link_artifact(outcome.publication.path.resolve().as_uri(), "version directory", key="version-directory")
    return outcome
