"""The run under Prefect: every step a task with a state. Only artifacts.py and late.py know Prefect too."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast

from prefect import State, flow, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed

from pipeline.artifacts import leave_artifacts, progress_artifact
from pipeline.errors import FetchError
from pipeline.outcome import Outcome, Stopped
from pipeline.request import DeviceName, Request
from pipeline.scheduling.attempt import attempt
from pipeline.scheduling.late import made_up_for
from pipeline.train import Progress
from pipeline.training.progress import show_progress

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
    again: bool = Request.again,
    notify_url: str | None = Request.notify_url,
) -> Outcome | Stopped:
    """Train, prove and publish a classifier.

    Fetch, check, train, calibrate, evaluate, export, verify, compare, rehearse, report, publish, confirm. A candidate
    that a gate refuses completes the run as *Not promoted*. A run ends early, as *Up to date*, when nothing has changed
    since a version was made, and as *Skipped* when another run of the same model is in progress, or has made up for it.

    Args:
        repository: The model repository, a folder; a relative path is below the deployment's working directory.
        model: The name of the model, a folder of the repository.
        preset: The network and its training: the name of a preset, or the path of a TOML file.
        device: Where to train; auto is the GPU if there is one that works, and else the CPU.
        dataset: A folder of pictures, one directory a class, or of IDX files, instead of the preset's data.
        download: Whether to try MNIST's mirrors before the copy that comes with the code.
        cache: Where downloads, and pictures that were read, are kept.
        force: Whether to publish what a gate refuses; the manifest says so.
        confirm: A server, HOST:PORT, to wait for until it answers with what was published.
        again: Whether to train although nothing has changed since the last run.
        notify_url: Who is told of a run that failed or was refused, by an HTTP POST. Everybody sees it here: a secret
            address belongs into the worker's environment, PIPELINE_NOTIFY_URL.
    """
    request = Request(repository, model, preset, device, dataset, download, cache, force, confirm, again, notify_url)
    with show_progress() as on_progress:
        tell = progress_artifact()

        def both(progress: Progress) -> None:
            on_progress(progress)
            tell(progress)

        ended = attempt(request, as_task, on_progress=both, made_up_for=made_up_for)
    if isinstance(ended, Stopped):
        return _completed(ended.name, ended.reason, ended)
    leave_artifacts(ended)
    if ended.publication is None:
        return _completed(NOT_PROMOTED, str(ended.refusal), ended)
    return ended


def _completed(name: str, message: str, ended: R) -> R:
    """A state of its own name for a run that went well; of a state that a flow returns, its caller gets the data."""
    return cast("R", Completed(name=name, message=message, data=ended))
