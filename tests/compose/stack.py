"""The composition as its users reach it: its door, Prefect's API, and `docker compose`."""

import base64
import json
import os
import shlex
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPConnection
from typing import Any, TypeVar

DOOR = f"127.0.0.1:{os.environ.get('DOOR_PORT', '8080')}"
PREFECT = f"http://127.0.0.1:{os.environ.get('PREFECT_PORT', '4200')}/api"
COMPOSE = shlex.split(os.environ.get("COMPOSE", "docker compose"))
READY_S, RUN_S, CHANGE_S = 600.0, 600.0, 60.0

Run = dict[str, Any]
T = TypeVar("T")


def say(text: str) -> None:
    """One line of what was seen, with the time since the beginning."""
    print(f"[{time.monotonic() - _BEGAN:6.1f} s] {text}", flush=True)


def compose(*arguments: str) -> str:
    """Run `docker compose` and return what it printed."""
    done = subprocess.run([*COMPOSE, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


def command(text: str) -> str:
    """Run a command of docs/operations.md, where no terminal is and nothing can be pulled."""
    program, verb, *arguments = text.removeprefix("docker ").split()
    assert program == "compose"
    without = {"exec": ["-T"], "run": ["-T"], "up": ["--no-build", "--pull", "never"]}
    return compose(verb, *without.get(verb, []), *arguments)


def execute(service: str, *command: str) -> str:
    """Run a command in a service's container."""
    return compose("exec", "-T", service, *command)


def wait_for(condition: Callable[[], T | None], within_s: float, what: str) -> T:
    """What `condition` gives once that is not None; fails after `within_s`."""
    give_up = time.monotonic() + within_s
    while (value := condition()) is None:
        assert time.monotonic() < give_up, f"not within {within_s:g} s: {what}"
        time.sleep(0.2)
    return value


def http(path: str, body: object = None) -> tuple[int, Any]:
    """The status and the JSON (None where there is none) with which the door answers HTTP."""
    connection = HTTPConnection(DOOR, timeout=30)
    try:
        content = None if body is None else json.dumps(body)
        connection.request("GET" if body is None else "POST", path, content, {"content-type": "application/json"})
        response = connection.getresponse()
        answer = response.read()
    finally:
        connection.close()
    is_json = response.getheader("content-type", "").startswith("application/json")
    return response.status, json.loads(answer) if is_json else None


def is_ready() -> bool | None:
    """True once the door has a replica that serves."""
    try:
        return http("/healthz")[0] == 200 or None
    except OSError:
        return None


def health(service: str) -> str:
    """What the container's health check says, or its state where it does not run."""
    told = json.loads(compose("ps", "--all", "--format", "json", service).splitlines()[0])
    return str(told["Health"] or told["State"])


def ask_prefect(
    path: str, body: object = None, *, method: str = "", **headers: str
) -> tuple[int, Mapping[str, str], Any]:
    """The status, the headers and the JSON with which Prefect's API answers, from `headers` and nothing besides."""
    content = None if body is None else json.dumps(body).encode()
    sent = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    request = urllib.request.Request(f"{PREFECT}{path}", content, sent, method=method or None)  # noqa: S310
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=30) as response:
            status, received, answer = response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        status, received, answer = error.code, error.headers, error.read()
    return (
        status,
        {name.lower(): value for name, value in received.items()},
        json.loads(answer) if answer[:1] in b"[{" else None,
    )


def password() -> str:
    """The HTTP header that lets a caller in, as docs/operations.md says where to read it."""
    told = command("docker compose exec prefect cat /run/digits/prefect/auth_string")
    return f"Basic {base64.b64encode(told.encode()).decode()}"


def csrf_token() -> dict[str, str]:
    """The HTTP headers that let a caller with the password change something."""
    token = ask_prefect("/csrf-token?client=smoke", authorization=password())[2]["token"]
    return {"prefect_csrf_client": "smoke", "prefect_csrf_token": token}


def prefect(path: str, body: object = None) -> Any:
    """Ask Prefect's API, as a caller with the password."""
    token = {} if body is None else csrf_token()
    status, _, answer = ask_prefect(path, body, authorization=password(), **token)
    assert status < 300, (path, status, answer)
    return answer


def start_run(**parameters: object) -> Run:
    """A run of the deployment, due now."""
    deployment = prefect("/deployments/name/digits/nightly")["id"]
    asked = {"state": {"type": "SCHEDULED"}, "parameters": parameters}
    run: Run = prefect(f"/deployments/{deployment}/create_flow_run", asked)
    return run


def state_of(run: Run) -> tuple[str, str]:
    """The type and the name of a run's state."""
    state = prefect(f"/flow_runs/{run['id']}")["state"]
    return state["type"], state["name"]


def members(what: str = "membership_healthy") -> int:
    """What the door says of its replicas: how many are healthy (and not ejected)."""
    ask = "c = h.HTTPConnection('127.0.0.1:9100'); c.request('GET', '/metrics')"
    program = f"import http.client as h; {ask}; print(c.getresponse().read().decode())"
    lines = execute("door", "python", "-c", program).splitlines()
    name = f"envoy_cluster_{what}{{"
    return int(next(line for line in lines if line.startswith(name)).split()[-1])


def kill(service: str) -> None:
    """SIGKILL to the program in a container, as if it had crashed: Docker starts it again."""
    execute(service, "sh", "-c", "kill -9 $(cat /proc/1/task/1/children)")


_BEGAN = time.monotonic()
