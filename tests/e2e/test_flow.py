"""The flow under a real Prefect server: names, states, artifacts."""

import json
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from prefect import State, flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import Artifact, TaskRun
from prefect.client.schemas.sorting import ArtifactSort
from prefect.testing.utilities import prefect_test_harness

from pipeline.artifacts import progress_artifact
from pipeline.errors import DataError, FetchError, PipelineError
from pipeline.flow import RETRIES, as_task, digits
from pipeline.outcome import Outcome, Stopped
from pipeline.scheduling.lock import only_run
from pipeline.train import Progress
from tests.outcomes import ended, evaluated, published
from tests.pipeline.presets import write_preset


@pytest.fixture(scope="module", autouse=True)
def prefect_server() -> Iterator[None]:
    """A server and a database of its own, gone afterwards."""
    with prefect_test_harness(server_startup_timeout=60):
        yield


@pytest.fixture(scope="module")
def finished(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> State[Outcome]:
    """A finished run."""
    folder = tmp_path_factory.mktemp("flow")
    preset = write_preset(folder / "short.toml", epochs="1")
    asked: dict[str, Any] = {"repository": folder / "repository", "preset": str(preset), "dataset": small_folder}
    return cast("State[Outcome]", digits(**asked, device="cpu", return_state=True))


def task_runs(state: State[Any]) -> list[TaskRun]:
    """The tasks of a flow run, in the order in which they began."""
    run_id = state.state_details.flow_run_id
    assert run_id is not None
    with get_client(sync_client=True) as client:
        runs = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id])))
    return sorted(runs, key=lambda run: str(run.start_time))


def test_the_flow_completes_and_publishes(finished: State[Outcome]) -> None:
    """The result is the outcome, and the version directory is there."""
    assert finished.is_completed()
    outcome = finished.result()
    assert published(outcome).is_new
    assert (published(outcome).path / "model.onnx").is_file()


def test_its_tasks_are_the_sentence(finished: State[Outcome]) -> None:
    """From fetch to publish: in this order, all completed."""
    runs = task_runs(finished)
    assert [run.name for run in runs] == [
        "fetch",
        "check",
        "check_network",
        "train",
        "calibrate",
        "evaluate",
        "export",
        "verify",
        "compare",
        "rehearse",
        "evaluate",
        "report",
        "publish",
    ]
    assert all(run.state is not None and run.state.is_completed() for run in runs)


def test_a_run_that_finds_nothing_changed_is_completed_as_up_to_date(finished: State[Outcome]) -> None:
    """After two steps, and it says which version is there."""
    run_id = finished.state_details.flow_run_id
    assert run_id is not None
    with get_client(sync_client=True) as client:
        asked = client.read_flow_run(run_id).parameters
    again = cast("State[Stopped]", digits(**asked, return_state=True))
    assert (again.is_completed(), again.name) == (True, "Up to date")
    assert again.message == "version 1 is what these data, config and code make"
    assert again.result().version == 1
    assert [run.name for run in task_runs(again)] == ["fetch", "check"]


def test_a_run_beside_another_is_completed_as_skipped(tmp_path: Path) -> None:
    """It says who runs, and no step began."""
    with only_run(tmp_path / "digits"):
        state = cast("State[Stopped]", digits(repository=tmp_path, return_state=True))
    assert (state.is_completed(), state.name) == (True, "Skipped")
    assert "another run of digits is in progress" in str(state.message)
    assert not task_runs(state)


def test_the_run_is_named_by_what_it_makes(finished: State[Outcome]) -> None:
    """A person finds it in a list."""
    run_id = finished.state_details.flow_run_id
    assert run_id is not None
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(run_id).name.startswith("digits ")


def artifacts_of(state: State[Outcome]) -> dict[str | None, Artifact]:
    """The newest artifacts of a flow run and its tasks, by key."""
    run_id = state.state_details.flow_run_id
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
        )
    return {artifact.key: artifact for artifact in found}


def test_the_result_is_an_artifact(finished: State[Outcome]) -> None:
    """A table with the accuracy, and links to the version directory and its report."""
    outcome, artifacts = finished.result(), artifacts_of(finished)
    assert f"{100 * evaluated(outcome).accuracy:.2f} %" in str(artifacts["run"].data)
    assert published(outcome).path.as_uri() in str(artifacts["version-directory"].data)
    assert published(outcome).report.is_file()
    assert published(outcome).report.as_uri() in str(artifacts["report"].data)


def test_the_classes_are_an_artifact(finished: State[Outcome]) -> None:
    """A table with a row for each class, as the report has it."""
    table = artifacts_of(finished)["classes"]
    assert table.type == "table"
    rows = json.loads(str(table.data))
    recall = [f"{100 * share:.2f} %" for share in evaluated(finished.result()).class_accuracy]
    assert [row["recall"] for row in rows] == recall


def test_the_confusion_matrix_is_a_picture(finished: State[Outcome]) -> None:
    """An image artifact whose address holds the PNG itself: Prefect's page needs no other server."""
    picture = artifacts_of(finished)["confusion"]
    assert picture.type == "image"
    start, _, content = str(picture.data).partition(",")
    assert start == "data:image/png;base64"
    assert b64decode(content) == (published(finished.result()).path / "report" / "confusion.png").read_bytes()


def test_the_progress_of_the_training_ends_at_100(finished: State[Outcome]) -> None:
    """It belongs to the task that trains."""
    progress = artifacts_of(finished)["training"]
    assert (progress.type, progress.data) == ("progress", 100)
    (train,) = (run for run in task_runs(finished) if run.name == "train")
    assert progress.task_run_id == train.id


def test_progress_is_told_once_a_second_at_most(finished: State[Outcome]) -> None:
    """Each time is a call of the server: of a thousand steps at once the first and the last are told."""

    @flow
    def many_steps() -> list[float]:
        tell = progress_artifact(every_s=600)
        told = []
        for step in (1, 500, 999, 1000):
            tell(Progress(epoch=1, epochs=1, step=step, steps=1000, loss=1.0))
            told.append(newest_progress())
        return told

    assert many_steps() == [0.1, 0.1, 0.1, 100]


def newest_progress() -> float:
    """What the server knows of the newest progress artifact."""
    with get_client(sync_client=True) as client:
        (artifact,) = client.read_artifacts(sort=ArtifactSort.CREATED_DESC, limit=1)
    return float(str(artifact.data))


@pytest.mark.parametrize(
    ("error", "tries"), [(FetchError, 1 + RETRIES), (DataError, 1)], ids=["no network", "a broken file"]
)
def test_only_what_meets_a_network_is_retried(error: type[PipelineError], tries: int) -> None:
    """What else failed would fail again."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        raise error("as the test says")

    @flow
    def one_step() -> None:
        as_task(step, retry_delay_s=0)()

    assert one_step(return_state=True).is_failed()
    assert count == tries


def test_a_step_that_refuses_fails_the_flow_with_its_reason(tmp_path: Path) -> None:
    """The state carries our own error, and nothing is published."""
    (tmp_path / "data").mkdir()
    state = digits(repository=tmp_path / "repository", dataset=tmp_path / "data", device="cpu", return_state=True)
    assert state.is_failed()
    with pytest.raises(DataError, match="train-images-idx3-ubyte"):
        state.result()
    assert not list((tmp_path / "repository").rglob("model.onnx"))


def test_a_refused_candidate_completes_the_flow_as_not_promoted(small_folder: Path, tmp_path: Path) -> None:
    """Completed, for nothing failed; named so that a person sees it in a list, with the reason as its message."""
    preset = write_preset(tmp_path / "short.toml", epochs="1", floor="1.0")
    state: State[Any] = digits(
        repository=tmp_path / "repository", preset=str(preset), device="cpu", dataset=small_folder, return_state=True
    )
    assert state.is_completed()
    assert state.name == "Not promoted"
    assert state.message is not None
    assert state.message.startswith("floor: ")
    outcome = state.result()
    assert outcome.publication is None
    assert outcome.refusal is not None
    assert [run.name for run in task_runs(state)][-2:] == ["rehearse", "reject"]
    run_id = state.state_details.flow_run_id
    assert run_id is not None
    with get_client(sync_client=True) as client:
        stored = client.read_flow_run(run_id).state
    assert stored is not None
    assert (stored.name, stored.is_completed()) == ("Not promoted", True)


def test_whoever_calls_the_flow_gets_the_outcome_of_a_refusal_too(small_folder: Path, tmp_path: Path) -> None:
    """As the command line does; and force publishes."""
    preset = write_preset(tmp_path / "short.toml", epochs="1", floor="1.0")
    repository = tmp_path / "repository"
    refused, forced = (
        digits(repository=repository, preset=str(preset), device="cpu", dataset=small_folder, force=force)
        for force in (False, True)
    )
    assert ended(refused).publication is None
    assert published(forced).version == 1
