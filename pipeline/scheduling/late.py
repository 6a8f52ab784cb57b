"""Whether a late run of a schedule is still needed, asked of the Prefect server."""

from datetime import datetime
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterStartTime,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.context import FlowRunContext

from pipeline.outcome import Stopped


def made_up_for() -> Stopped | None:
    """Why this run is not needed: it is late, and a run of the same schedule that began after it was due has ended.

    So one run makes up for all that a machine missed while it was off; the oldest of them, which comes first. What is
    still running makes up for nothing yet: the lock keeps this run from working beside it, if its worker lives.
    """
    run = FlowRunContext.get()
    mine = run.flow_run if run else None
    if mine is None or mine.deployment_id is None or not mine.auto_scheduled:
        return None
    if mine.run_count > 1:  # somebody asked for it again, however late
        return None
    since = _ended_since(mine.deployment_id, mine.expected_start_time)
    made_up = next((run for run in since if run.auto_scheduled), None)
    if made_up is None:
        return None
    began = f"{made_up.name} began at {made_up.start_time}"
    return Stopped("Skipped", f"it was due at {mine.expected_start_time}, and {began}")


def _ended_since(deployment: UUID, due: datetime | None) -> list[FlowRun]:
    """The runs of a deployment that began since a time and came to an end of their own, a good one or a failure."""
    ended = FlowRunFilterStateType(any_=[StateType.COMPLETED, StateType.FAILED])
    wanted = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment]),
        start_time=FlowRunFilterStartTime(after_=due),
        state=FlowRunFilterState(type=ended, name=FlowRunFilterStateName(not_any_=["Skipped"])),
    )
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_run_filter=wanted)
