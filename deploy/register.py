"""Makes a Prefect server know the flow: work pool, deployment, and the first run where nothing is published yet.

It may be run again at any time: what is there already is brought up to date.
"""

import os
import subprocess
import sys
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectAlreadyExists
from prefect.states import Scheduled

ROOT = Path(__file__).parents[1]
POOL, DEPLOYMENT = "digits", "digits/nightly"
CURRENT = ROOT / "model_repository" / "digits" / "CURRENT"


def register() -> None:
    """Pool and deployment as prefect.yaml has them, and a run if nothing is served."""
    with get_client(sync_client=True) as client:
        _make_pool(client)
        subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
            cwd=ROOT,
            env=os.environ | {"PWD": str(ROOT)},
            check=True,
        )
        if CURRENT.exists():
            print("a version is published: the schedule makes the next one")
            return
        deployment = client.read_deployment_by_name(DEPLOYMENT)
        if _has_run_to_come(client, deployment.id):
            print("nothing is published yet, and a run is on its way")
            return
        run = client.create_flow_run_from_deployment(deployment.id, state=Scheduled(), name="first")
        print(f"nothing is published yet: the worker makes a first version ({run.id})")


def _has_run_to_come(client: SyncPrefectClient, deployment: UUID) -> bool:
    """Whether a run was asked for, not by the schedule, that has not ended."""
    wanted = FlowRunFilter(
        deployment_id=FlowRunFilterDeploymentId(any_=[deployment]),
        state=FlowRunFilterState(
            type=FlowRunFilterStateType(any_=[StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING])
        ),
    )
    return any(not run.auto_scheduled for run in client.read_flow_runs(flow_run_filter=wanted))


def _make_pool(client: SyncPrefectClient) -> None:
    try:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    except ObjectAlreadyExists:
        print(f"the work pool {POOL} is there")


if __name__ == "__main__":
    register()
