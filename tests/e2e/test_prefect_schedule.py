"""The deployment of prefect.yaml on a real server: it gets its runs, and a killed worker costs it one of them."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import numpy as np
import pytest
from PIL import Image

from pipeline.scheduling.lock import read_note
from tests.browser import needs_chromium, rendered, screenshot
from tests.e2e.prefect_programs import PREFECT, START_S, PrefectServer, group, kill_group, prefect_server, wait_for
from tests.pipeline.presets import write_preset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

Run = dict[str, Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    """A server that has the work pool and the deployment, as the docs make them."""
    with prefect_server(tmp_path_factory.mktemp("server")) as server:
        server.prefect("work-pool", "create", "digits", "--type", "process")
        server.prefect("deploy", "--all")
        yield server


@pytest.fixture
def api(server: PrefectServer) -> Iterator[httpx.Client]:
    """The server's API."""
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


@pytest.fixture
def deployment(api: httpx.Client) -> str:
    """The deployment's identifier."""
    return str(UUID(api.get("/deployments/name/digits/nightly").raise_for_status().json()["id"]))


def runs(api: httpx.Client, deployment: str) -> list[Run]:
    """All runs of the deployment."""
    wanted = {"deployments": {"id": {"any_": [deployment]}}}
    found: list[Run] = api.post("/flow_runs/filter", json=wanted).raise_for_status().json()
    return found


def state_of(api: httpx.Client, run: Run) -> str:
    """The name of a run's state."""
    return str(api.get(f"/flow_runs/{run['id']}").raise_for_status().json()["state"]["name"])


def is_skipped(api: httpx.Client, run: Run) -> bool:
    """Whether a run ended without having begun."""
    return state_of(api, run) == "Skipped"


def is_deleted(api: httpx.Client, path: str) -> bool:
    """Delete; False, and so tried again, while SQLite is busy (503)."""
    return bool(api.delete(path).is_success)


def start(api: httpx.Client, deployment: str, parameters: dict[str, Any]) -> Run:
    """A run of the deployment, due now; asked for again while SQLite is busy (503)."""
    asked = {"state": {"type": "SCHEDULED"}, "parameters": parameters}

    def accepted() -> httpx.Response | None:
        answer = api.post(f"/deployments/{deployment}/create_flow_run", json=asked)
        return None if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE else answer.raise_for_status()

    run: Run = wait_for(accepted, START_S).json()
    return run


@pytest.fixture
def parameters(small_folder: Path, tmp_path: Path) -> Callable[[int], dict[str, Any]]:
    """What a run of so many epochs on little data is asked for."""

    def make(epochs: int) -> dict[str, Any]:
        preset = write_preset(tmp_path / f"{epochs}.toml", epochs=str(epochs))
        asked = {"repository": tmp_path / "repository", "preset": preset, "dataset": small_folder}
        return {name: str(value) for name, value in asked.items()} | {"device": "cpu"}

    return make


def worker(server: PrefectServer, folder: Path, limit: int = 2) -> AbstractContextManager["subprocess.Popen[bytes]"]:
    """A worker as the docs start it."""
    command = [str(PREFECT), "worker", "start", "--pool", "digits", "--limit", str(limit)]
    return group(command, server.environment, folder / "worker.log")


def test_a_cron_deployment_gets_scheduled_runs(api: httpx.Client, deployment: str) -> None:
    """At 3 o'clock on the coming days: the packages that are pinned let the scheduler work."""

    def scheduled() -> list[Run]:
        return [run for run in runs(api, deployment) if run["auto_scheduled"] and run["state"]["name"] == "Scheduled"]

    planned = wait_for(scheduled, START_S)
    due = sorted(datetime.fromisoformat(run["expected_start_time"]) for run in planned)
    assert all((time.hour, time.minute) == (3, 0) for time in due)


def test_its_parameters_are_explained(api: httpx.Client, deployment: str) -> None:
    """Each has a description, for whoever starts a run of their own in the browser."""
    schema = api.get(f"/deployments/{deployment}").raise_for_status().json()["parameter_openapi_schema"]
    assert schema["properties"]
    assert all(known.get("description") for known in schema["properties"].values())


@needs_chromium
def test_its_parameters_are_edited_in_the_browser(
    server: PrefectServer, api: httpx.Client, deployment: str, tmp_path: Path
) -> None:
    """Prefect's form for a run with other parameters shows each of them with its explanation, and fields to edit."""
    schema = api.get(f"/deployments/{deployment}").raise_for_status().json()["parameter_openapi_schema"]
    address = f"{server.url.removesuffix('/api')}/deployments/deployment/{deployment}/run"
    shot = tmp_path / "form.png"
    screenshot(address, shot, width=1280, height=3000)
    pixels = np.asarray(Image.open(shot).convert("L")).astype(int)
    differs = np.abs(pixels - pixels[-5, -5]) > 40
    assert all(part.any(axis=1).mean() > 0.1 for part in np.array_split(differs[:2000], 4))
    form = rendered(address)
    shown = " ".join(unescape(re.sub(r"<[^>]+>", " ", form)).split())
    for name, known in schema["properties"].items():
        assert f"{name} (Optional)" in shown
        assert " ".join(known["description"].split()) in shown
    assert len(re.findall(r"<textarea|<select|<input", form)) >= len(schema["properties"]) / 2


def test_a_killed_worker_costs_one_run(
    server: PrefectServer,
    api: httpx.Client,
    deployment: str,
    parameters: Callable[[int], dict[str, Any]],
    tmp_path: Path,
) -> None:
    """The next one publishes; the one after that finds nothing to do; two at a time are one."""
    model = tmp_path / "repository" / "digits"
    with worker(server, tmp_path) as first:
        killed = start(api, deployment, parameters(500))
        wait_for(
            lambda: (note := read_note(model)) and not note.is_ended and state_of(api, killed) == "Running", START_S
        )
        overlapping = start(api, deployment, parameters(1))
        wait_for(lambda: state_of(api, overlapping) == "Skipped", START_S)
        kill_group(first)
        note = read_note(model)
        assert note is not None
        os.kill(note.pid, signal.SIGKILL)  # the run leads a group of its own
    assert state_of(api, killed) == "Running"  # nobody told the server
    with worker(server, tmp_path):
        following = start(api, deployment, parameters(1))
        wait_for(lambda: state_of(api, following) == "Completed", START_S)
        assert (model / "CURRENT").exists()
        began = time.monotonic()
        unchanged = start(api, deployment, parameters(1))
        wait_for(lambda: state_of(api, unchanged) == "Up to date", START_S)
        print(f"up to date: {time.monotonic() - began:.1f} s from the due time")


def test_one_run_makes_up_for_all_that_were_missed(
    server: PrefectServer,
    api: httpx.Client,
    deployment: str,
    parameters: Callable[[int], dict[str, Any]],
    tmp_path: Path,
) -> None:
    """A schedule of minutes without a worker for three of them: the first run works, what was due by then is skipped.

    A run whose worker was killed stays *Running* for the server; it has made up for nothing.
    """
    schedule = {"schedule": {"cron": "* * * * *"}, "active": True, "parameters": parameters(1)}
    made = api.post(f"/deployments/{deployment}/schedules", json=[schedule]).raise_for_status().json()
    try:

        def missed() -> list[Run]:
            return [run for run in runs(api, deployment) if run["auto_scheduled"] and run["state"]["name"] == "Late"]

        wait_for(lambda: len(missed()) >= 3, 5 * 60)
        killed, *late = sorted(missed(), key=lambda run: str(run["expected_start_time"]))
        for state in ("PENDING", "RUNNING"):
            body = {"state": {"type": state}, "force": True}
            api.post(f"/flow_runs/{killed['id']}/set_state", json=body).raise_for_status()
        with worker(server, tmp_path, limit=1):
            wait_for(lambda: state_of(api, late[0]) == "Completed", START_S)
            for run in late[1:]:
                wait_for(partial(is_skipped, api, run), START_S)
    finally:
        for one in made:
            wait_for(partial(is_deleted, api, f"/deployments/{deployment}/schedules/{one['id']}"), START_S)
