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
)
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext

from pipeline.request import Stopped


def made_up_for() -> Stopped | None:
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
