"""The run under Prefect: every step a task with a state, the result an artifact. Nothing else knows Prefect."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import ParamSpec, TypeVar

from prefect import flow, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from pipeline import summary
from pipeline.device import DeviceName
from pipeline.progress import show_progress
from pipeline.run import Outcome, Request, run

P = ParamSpec("P")
R = TypeVar("R")

# Only fetching meets a network; every other step would fail again as it failed before.
RETRIES: Mapping[str, int] = {"fetch": 2}


def as_task(function: Callable[P, R]) -> Callable[P, R]:
    """Make a Prefect task of a step: named after it, never cached (its arguments are paths and numbers)."""
    name = function.__name__
    decorate = task(
        name=name,
        task_run_name=name,
        retries=RETRIES.get(name, 0),
        retry_delay_seconds=5,
        retry_jitter_factor=0.5,
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
) -> Outcome:
    """Train, prove and publish a digit classifier: fetch, check, train, evaluate, export, verify, publish."""
    request = Request(repository, model, preset, device, dataset, download, cache)
    with show_progress() as on_progress:
        outcome = run(request, as_task, on_progress=on_progress)
    create_markdown_artifact(summary.markdown(outcome), key="run", description=summary.verdict(outcome))
    create_link_artifact(outcome.publication.path.resolve().as_uri(), "version directory", key="version-directory")
    return outcome
