"""The run under Prefect: every step a task with a state, the result an artifact. Nothing else knows Prefect."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from prefect import State, flow, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterStartTime,
    FlowRunFilterState,
    FlowRunFilterStateName,
)
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.states import Completed

from pipeline import summary
from pipeline.attempt import attempt
from pipeline.device import DeviceName
from pipeline.errors import FetchError
from pipeline.progress import show_progress
from pipeline.run import Outcome, Request, Stopped

P = ParamSpec("P")
R = TypeVar("R")

RETRIES = 2
RETRY_DELAY_S = 5


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
    again: bool = Request.again,
    notify_url: str | None = Request.notify_url,
) -> Outcome | State[Stopped]:
    """Train, prove and publish a digit classifier: fetch, check, train, evaluate, export, verify, publish.

    A run ends early, as *Up to date*, when nothing has changed since a version was made, and as *Skipped* when another
    run of the same model is in progress, or has made up for this one already.

    Args:
        repository: The model repository, a folder; a relative path is below the deployment's working directory.
        model: The name of the model, a folder of the repository.
        preset: The network and its training: the name of a preset, or the path of a TOML file.
        device: Where to train; auto is the GPU if there is one that works, and else the CPU.
        dataset: A folder of IDX files in the layout of MNIST, instead of the preset's data.
        download: Whether to try MNIST's mirrors before the copy that comes with the code.
        cache: Where downloads are kept.
        again: Whether to train although nothing has changed since the last run.
        notify_url: Who is told of a run that failed or was refused, by an HTTP POST. Everybody sees it here: a secret
            address belongs into the worker's environment, PIPELINE_NOTIFY_URL.
    """
    request = Request(repository, model, preset, device, dataset, download, cache, again, notify_url)
    with show_progress() as on_progress:
        ended = _made_up_for() or attempt(request, as_task, on_progress=on_progress)
    if isinstance(ended, Stopped):
        return Completed(name=ended.name, message=ended.reason, data=ended)
    create_markdown_artifact(summary.markdown(ended), key="run", description=summary.verdict(ended))
    create_link_artifact(ended.publication.path.resolve().as_uri(), "version directory", key="version-directory")
    return ended


def _made_up_for() -> Stopped | None:
    """Why this run is not needed: it is late, and a run of the same schedule began after it was due.

    So one run makes up for all that a machine missed while it was off; the oldest of them, which comes first.
    """
    run = FlowRunContext.get()
    mine = run.flow_run if run else None
    if mine is None or mine.deployment_id is None or not mine.auto_scheduled:
        return None
    begun = [run for run in _begun_since(mine.deployment_id, mine.expected_start_time) if run.auto_scheduled]
    first = min(begun, key=_order, default=mine)
    if first.id == mine.id:
        return None
    return Stopped("Skipped", f"it was due at {mine.expected_start_time}, and {first.name} began at {first.start_time}")


def _begun_since(deployment: UUID, due: datetime | None) -> list[FlowRun]:
    """The runs of a deployment that began since a time, and did or are doing something."""
    did_nothing = FlowRunFilterStateName(not_any_=["Skipped", "Crashed", "Cancelled"])
    wanted = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment]),
        start_time=FlowRunFilterStartTime(after_=due),
        state=FlowRunFilterState(name=did_nothing),
    )
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_run_filter=wanted)


def _order(run: FlowRun) -> tuple[str, str]:
    return str(run.start_time), str(run.id)
