"""What must hold of a composition that is up. `python -m tests.compose.smoke STEP ...`; smoke.sh runs all of it."""

import asyncio
import base64
import sys
import time

import numpy as np
from connectrpc.client import ConnectClient
from connectrpc.compat import google_protobuf_binary_codec
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.protocol import ProtocolType
from pyqwest import Client, HTTPTransport, HTTPVersion

from protos.digits.v1.digits_pb2 import ClassifyRequest, ClassifyResponse
from serving.client import DigitClient
from serving.idx import read_images, read_labels
from tests.compose.load import CALLERS, load
from tests.compose.stack import (
    CHANGE_S,
    DOOR,
    READY_S,
    RUN_S,
    ask_prefect,
    command,
    compose,
    csrf_token,
    execute,
    health,
    http,
    is_ready,
    kill,
    members,
    password,
    prefect,
    say,
    start_run,
    state_of,
    wait_for,
)
from tests.programs import ROOT

COUNT, CALL = 1000, 100
LEAST_RIGHT = 970
MNIST = ROOT / "data" / "mnist"
IMAGES = read_images(MNIST / "t10k-images-idx3-ubyte.gz")[:COUNT]
LABELS = read_labels(MNIST / "t10k-labels-idx1-ubyte.gz")[:COUNT]

OTHER_PRESET = """
from pathlib import Path
text = Path("pipeline/presets/default.toml").read_text()
Path("runs/other.toml").write_text(text.replace("seed = 0", "seed = 1").replace("epochs = 6", "epochs = 5"))
"""


def ready() -> None:
    """The door has a replica that serves, and all services are healthy."""
    wait_for(is_ready, READY_S, "a first version that is served")
    say("READY")
    for service in ("postgres", "prefect", "worker", "serving-1", "serving-2", "door"):
        wait_for(lambda name=service: health(name) == "healthy" or None, READY_S, f"{service} healthy")  # type: ignore[misc]
    wait_for(lambda: members() == 2 or None, CHANGE_S, "two replicas")
    say("all services are healthy, the door has two replicas")


SOCKET = """
import asyncio, websockets
async def main():
    for subprotocols in ([], ["prefect"]):
        try:
            async with websockets.connect("ws://prefect:4200/api/events/out", subprotocols=subprotocols) as socket:
                await socket.send('{"type": "auth", "token": null}')
                await socket.send('{"type": "filter", "filter": {}}')
                print("open:", await asyncio.wait_for(socket.recv(), 20))
        except websockets.WebSocketException as error:
            print("closed:", type(error).__name__)
asyncio.run(main())
"""
ATTACK = (
    ("/flows/", {"name": "attack"}),
    (
        "/deployments/",
        {
            "name": "attack",
            "flow_id": "00000000-0000-4000-8000-000000000000",
            "pull_steps": [{"prefect.deployments.steps.run_shell_script": {"script": "touch /tmp/attacked"}}],
        },
    ),
    ("/deployments/00000000-0000-4000-8000-000000000000/create_flow_run", {"state": {"type": "SCHEDULED"}}),
)
"""What makes a worker run a command, where Prefect's API lets everybody in."""


def locked() -> None:
    """Prefect's API: nothing without the password or from another origin's page; health and the password let in."""
    for wrong in ({}, {"authorization": "Basic ZGlnaXRzOndyb25n"}):
        assert ask_prefect("/csrf-token?client=smoke", **wrong)[0] == 401
        for path, body in ATTACK:
            assert ask_prefect(path, body, **wrong)[0] == 403, path  # the CSRF check comes first
            assert ask_prefect(path, body, **csrf_token(), **wrong)[0] == 401, path
    preflight = {"origin": "http://elsewhere.example", "access_control_request_method": "POST"}
    status, headers, _ = ask_prefect("/flows/", method="OPTIONS", **preflight)
    assert "access-control-allow-origin" not in headers, (status, headers)
    status, _, told = ask_prefect("/flows/", {"name": "attack"}, authorization=password())
    assert status == 403, told  # a page that the browser's own login accompanies has no CSRF token
    assert [ask_prefect(path)[0] for path in ("/health", "/ready")] == [200, 200]
    assert "open" not in (said := execute("worker", "python", "-c", SOCKET)), said
    assert said.count("closed:") == 2, said
    assert prefect("/flows/filter", {})
    say("Prefect's API is closed without the password")


def rotates() -> None:
    """Another password for Prefect: the old one is no good, the worker has the new one."""
    before = password()
    command("docker compose run --rm --no-deps --entrypoint rm secrets /run/digits/prefect/auth_string")
    command("docker compose run --rm --no-deps secrets")
    command("docker compose restart prefect worker")
    for service in ("prefect", "worker"):
        wait_for(lambda name=service: health(name) == "healthy" or None, READY_S, f"{service} healthy")  # type: ignore[misc]
    assert ask_prefect("/csrf-token?client=smoke", authorization=before)[0] == 401
    assert prefect("/flows/filter", {})
    say("Prefect has another password")


def classify() -> None:
    """1,000 images over gRPC, over HTTP/JSON and over gRPC-Web have the same answers, and they are right."""
    by_grpc, by_json, by_web = _by_grpc(), _by_json(), asyncio.run(_by_grpc_web())
    for name, digits in (("gRPC", by_grpc), ("HTTP/JSON", by_json), ("gRPC-Web", by_web)):
        right = int((np.array(digits) == LABELS).sum())
        say(f"{right} of {COUNT} images right over {name}")
        assert right >= LEAST_RIGHT
    assert by_grpc == by_json == by_web


def page() -> None:
    """The page, its description of the API, and a refusal for what is not there."""
    assert [http(path)[0] for path in ("/", "/openapi.json", "/nothing")] == [200, 200, 404]
    say("the page and openapi.json are there")


def version_changes() -> None:
    """A run that is started by Prefect's API brings another version, and no call fails meanwhile."""
    before = http("/v1/model")[1]["model_version"]
    execute("worker", "python", "-c", OTHER_PRESET)
    with load(IMAGES, pause_s=0.05) as outcomes:  # the training wants the cores too
        run = start_run(preset="runs/other.toml", force=True)
        wait_for(lambda: _has_ended(run), RUN_S, "the second run")
        assert state_of(run)[0] == "COMPLETED", state_of(run)
        wait_for(lambda: set(_versions()) == {before + 1} or None, CHANGE_S, f"version {before + 1} on both replicas")
        time.sleep(2)
    say(f"version {before} became {before + 1} under {outcomes.answered} calls; failed: {outcomes.failures}")
    assert not outcomes.failures
    assert set(outcomes.versions) == {before, before + 1}


def replica_dies() -> None:
    """kill -9: only calls in flight on it are lost; the door leaves it out, and takes it back."""
    with load(IMAGES) as outcomes:
        time.sleep(1)
        kill("serving-1")
        wait_for(lambda: members() == 1 or None, CHANGE_S, "the door leaves it out")
        say("the dead replica gets no calls")
        wait_for(lambda: members() == 2 or None, CHANGE_S, "the door takes it back")
        time.sleep(1)
    say(f"serving-1 was killed under {outcomes.answered} calls; lost: {outcomes.failures}")
    assert len(outcomes.failures) <= CALLERS


def replica_drains() -> None:
    """An orderly restart of a replica loses nothing."""
    with load(IMAGES) as outcomes:
        compose("restart", "serving-2")
        wait_for(lambda: members() == 2 or None, CHANGE_S, "the door takes it back")
    say(f"serving-2 was restarted under {outcomes.answered} calls; lost: {outcomes.failures}")
    assert not outcomes.failures


def upgrades() -> None:
    """One replica after the other is replaced, and no call is lost."""
    with load(IMAGES) as outcomes:
        command("docker compose up --detach --wait --no-deps --force-recreate serving-1")
        wait_for(lambda: members() == 2 or None, CHANGE_S, "the first one is back")
        command("docker compose up --detach --wait --no-deps --force-recreate serving-2")
        wait_for(lambda: members() == 2 or None, CHANGE_S, "the second one is back")
    say(f"both replicas were replaced under {outcomes.answered} calls; lost: {outcomes.failures}")
    assert not outcomes.failures


def worker_dies() -> None:
    """kill -9 in the middle of a run: the next run completes."""
    run = start_run(again=True, force=True)
    wait_for(lambda: state_of(run)[0] == "RUNNING" or None, RUN_S, "a run")
    time.sleep(5)
    kill("worker")
    say("the worker was killed in mid-run")
    wait_for(lambda: health("worker") == "healthy" or None, RUN_S, "the worker is back")
    following = start_run(again=True)
    wait_for(lambda: _has_ended(following), RUN_S, "the next run")
    say(f"the next run: {state_of(following)}")
    assert state_of(following) == ("COMPLETED", "Completed")  # not Skipped: the dead run holds no lock


def rolls_back() -> None:
    """`pipeline rollback` in the worker changes what is served, and back."""
    before = http("/v1/model")[1]["model_version"]
    say(command("docker compose exec worker python -m pipeline versions"))
    command("docker compose exec worker python -m pipeline rollback")
    after = wait_for(lambda: next((it for it in _versions() if it != before), None), CHANGE_S, "the version before")
    command(f"docker compose exec worker python -m pipeline promote {before}")
    wait_for(lambda: set(_versions()) == {before} or None, CHANGE_S, f"version {before} again")
    say(f"rolled back from {before} to {after}, and promoted again")


def kept() -> None:
    """What was published and what ran are still known: the last version, and Prefect's runs."""
    assert min(_versions()) >= 2
    runs = prefect("/flow_runs/filter", {"flows": {"name": {"any_": ["digits"]}}})
    ended = [run["name"] for run in runs if run["state"]["type"] == "COMPLETED"]
    say(f"version {_versions()[0]} is served, Prefect knows {len(ended)} completed runs")
    assert len(ended) >= 2


def stops() -> None:
    """`docker compose stop` drains: a call is answered, or told that it was not begun."""
    with load(IMAGES) as outcomes:
        time.sleep(1)
        command("docker compose stop")
        time.sleep(1)
    cut = [failure for failure in outcomes.failures if "failed to connect" not in failure]
    say(f"stopped under {outcomes.answered} calls; {len(outcomes.failures)} found it closed; cut off: {cut}")
    assert not cut
    for service in ("door", "serving-1", "serving-2"):
        said = compose("logs", "--no-log-prefix", service)  # Envoy writes its last requests after our last words
        assert "drained, every call was answered" in said or '"stopped"' in said, said[-2000:]
    say("door and replicas have drained")


def _has_ended(run: dict[str, object]) -> bool | None:
    return state_of(run)[0] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") or None


def _versions() -> list[int]:
    """What several calls are answered by: the replicas take turns."""
    return [int(http("/v1/model")[1]["model_version"]) for _ in range(8)]


def _by_grpc() -> list[int]:
    with DigitClient(DOOR) as client:
        return [int(digit) for part in _parts() for digit in client.classify(part).digits]


def _by_json() -> list[int]:
    answers = []
    for part in _parts():
        body = {"image_count": len(part), "pixels": base64.b64encode(part.tobytes()).decode()}
        status, answer = http("/v1/classify", body)
        assert status == 200, answer
        answers += answer["digits"]
    return answers


async def _by_grpc_web() -> list[int]:
    classify = MethodInfo(
        name="Classify",
        service_name="digits.v1.DigitService",
        input=ClassifyRequest,
        output=ClassifyResponse,
        idempotency_level=IdempotencyLevel.UNKNOWN,
        stream_type=StreamType.UNARY,
    )
    answers: list[int] = []
    async with (
        HTTPTransport(http_version=HTTPVersion.HTTP1) as transport,
        ConnectClient(
            f"http://{DOOR}",
            protocol=ProtocolType.GRPC_WEB,
            codec=google_protobuf_binary_codec(),
            http_client=Client(transport),
            timeout_ms=30_000,
        ) as client,
    ):
        for part in _parts():
            request = ClassifyRequest(image_count=len(part), pixels=part.tobytes())
            answer = await client.execute_unary(request=request, method=classify)
            answers += answer.digits
    return answers


def _parts() -> list[np.ndarray]:
    return [IMAGES[first : first + CALL] for first in range(0, COUNT, CALL)]


STEPS = {
    step.__name__: step
    for step in (
        ready,
        locked,
        classify,
        page,
        version_changes,
        replica_dies,
        replica_drains,
        upgrades,
        rolls_back,
        rotates,
        worker_dies,
        kept,
        stops,
    )
}

if __name__ == "__main__":
    for name in sys.argv[1:] or STEPS:
        STEPS[name]()
