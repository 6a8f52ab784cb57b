"""The flow under a real Prefect server: names, states, artifacts."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect import State, flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import TaskRun
from prefect.testing.utilities import prefect_test_harness

from pipeline.errors import DataError, FetchError, PipelineError
from pipeline.flow import RETRIES, as_task, digits
from pipeline.run import Outcome
from tests.outcomes import published, tested
from tests.pipeline.presets import write_preset

pytestmark = pytest.mark.xdist_group("prefect")  # one server for all of them


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
    state: State[Outcome] = digits(
        repository=folder / "repository", preset=str(preset), device="cpu", dataset=small_folder, return_state=True
    )
    return state


def task_runs(state: State[Outcome]) -> list[TaskRun]:
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
    """Fetch, check, train, evaluate, export, verify, compare, rehearse, publish: in this order, all completed."""
    runs = task_runs(finished)
    assert [run.name for run in runs] == [
        "fetch",
        "check",
        "train",
        "evaluate",
        "export",
        "verify",
        "compare",
        "rehearse",
        "evaluate",
        "publish",
    ]
    assert all(run.state is not None and run.state.is_completed() for run in runs)


def test_the_run_is_named_by_what_it_makes(finished: State[Outcome]) -> None:
    """A person finds it in a list."""
    run_id = finished.state_details.flow_run_id
    assert run_id is not None
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(run_id).name.startswith("digits ")


def test_the_result_is_an_artifact(finished: State[Outcome]) -> None:
    """A table with the accuracy, and a link to the version directory."""
    outcome = finished.result()
    with get_client(sync_client=True) as client:
        artifacts = {artifact.key: artifact for artifact in client.read_artifacts()}
    assert f"{100 * tested(outcome).accuracy:.2f} %" in str(artifacts["run"].data)
    assert published(outcome).path.as_uri() in str(artifacts["version-directory"].data)


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
    assert not (tmp_path / "repository").exists()


def test_a_refused_candidate_completes_the_flow_as_not_promoted(small_folder: Path, tmp_path: Path) -> None:
    """Completed, for nothing failed; named so that a person sees it in a list, with the reason as its message."""
    preset = write_preset(tmp_path / "short.toml", epochs="1", floor="1.0")
    state: State[Outcome] = digits(
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
    assert refused.publication is None
    assert published(forced).version == 1
