"""What every service of the composition has. Whether it works, smoke.sh tells: it needs Docker's engine."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.programs import ROOT

COMPOSITION = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSITION["services"]
ONCE = {"secrets", "register"}
"""Services that do something and end."""
LASTING = sorted(SERVICES.keys() - ONCE)
NESTED = re.compile(r"(:\S*)\$\{\w+:-(\w+)\}\}")
"""A variable in the value of another one."""

OVERRIDES = [ROOT / name for name in ("docker-compose.yml", "docker-compose.gpu.yml", "docker-compose.tls.yml")]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_has_limits_and_a_log_that_does_not_fill_the_disk(name: str) -> None:
    """Those that end as well."""
    assert SERVICES[name]["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert SERVICES[name]["logging"]["options"].keys() == {"max-size", "max-file"}


@pytest.mark.parametrize("name", LASTING)
def test_a_lasting_service_is_watched_and_started_again(name: str) -> None:
    """By a program in its container."""
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_may_do_no_more_than_it_must(name: str) -> None:
    """Only Postgres, whose image changes its user itself, has capabilities and writes to its own file system."""
    service = SERVICES[name]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["cap_drop"] == ["ALL"]
    if name == "postgres":
        assert set(service["cap_add"]) == {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}
    else:
        assert "cap_add" not in service
    if name not in {"postgres", "secrets"}:
        assert service["read_only"]


NEEDS = {
    "postgres-password": {"postgres", "prefect"},
    "prefect-password": {"prefect", "register", "worker"},
    "grafana-password": {"grafana"},
}


def test_a_password_is_seen_by_those_that_need_it() -> None:
    """And made in one place; nobody else can write it, and no variable of a service holds it."""
    seen: dict[str, set[str]] = {}
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source, _, rest = volume.partition(":")
            if source.endswith("-password") and name != "secrets":
                seen.setdefault(source, set()).add(name)
                assert rest.endswith(":ro"), (name, volume)
        variables = {
            key for key in service.get("environment", {}) if re.search("PASSWORD|AUTH_STRING|SECRET|TOKEN", key)
        }
        assert all(key.endswith("__FILE") for key in variables), (name, variables)
    assert seen == NEEDS
    assert {volume for volume in COMPOSITION["volumes"] if volume.endswith("-password")} == NEEDS.keys()


def test_a_network_leads_out_only_for_those_that_call_or_are_published() -> None:
    """Postgres and the replicas call nobody; who is published must be reachable from outside."""
    internal = {name for name, network in COMPOSITION["networks"].items() if network and network.get("internal")}
    out = {name for name, service in SERVICES.items() if set(service.get("networks", [])) - internal}
    assert out == {"prefect", "register", "worker", "door", "prometheus", "grafana"}
    assert {name for name, service in SERVICES.items() if "ports" in service} <= out


def test_prefects_api_asks_for_a_password_and_answers_no_other_origin() -> None:
    """Whoever may call it makes the worker run any command."""
    server = SERVICES["prefect"]
    assert "PREFECT_SERVER_API_AUTH_STRING" in str(server["entrypoint"])
    assert server["environment"]["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"] == "true"
    origin = server["environment"]["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"]
    assert "*" not in origin
    assert server["environment"]["PREFECT_SERVER_UI_API_URL"] == f"{origin}/api"
    for name, service in SERVICES.items():
        if "PREFECT_API_URL" in service.get("environment", {}):
            assert "PREFECT_API_AUTH_STRING" in str(service["entrypoint"]), name


@pytest.mark.parametrize("name", LASTING)
def test_a_health_check_asks_no_proxy(name: str) -> None:
    """Docker passes its own `http_proxy` to containers; `urlopen` would ask that for 127.0.0.1."""
    test = str(SERVICES[name]["healthcheck"]["test"])
    assert "urlopen" not in test
    if "wget" in test:  # that of busybox knows no variable of exceptions
        assert {SERVICES[name]["environment"][variable] for variable in ("http_proxy", "HTTP_PROXY")} == {""}


def test_only_the_door_and_pages_are_published_and_on_loopback() -> None:
    """Unless .env says otherwise."""
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published.keys() == {"door", "prefect", "prometheus", "grafana"}
    for ports in published.values():
        assert all(re.match(r"(\$\{\w+:-)?127\.0\.0\.1", port) for port in ports)


def test_serving_cannot_write_models() -> None:
    """The worker alone can."""
    writers = {
        name
        for name, service in SERVICES.items()
        for volume in service.get("volumes", [])
        if re.fullmatch(r"models:[^:]+", volume)
    }
    assert writers == {"worker"}


def test_a_service_waits_for_what_it_needs_by_a_condition() -> None:
    """Being there is not enough."""
    for service in SERVICES.values():
        assert isinstance(service.get("depends_on", {}), dict)


def test_no_image_comes_without_a_version() -> None:
    """But those that are built here."""
    for service in SERVICES.values():
        assert re.search(r":[v0-9]", service["image"]) or "digits-" in service["image"]


def test_what_can_be_changed_stands_in_the_example() -> None:
    """Every variable of every file, and none besides; with the value that holds."""
    used: dict[str, str] = {}
    for path in OVERRIDES:
        for name, kind, value in re.findall(
            r"(?<!\$)\$\{(\w+)(?::([-?])([^}]*))?\}", NESTED.sub(r"\1\2}", path.read_text())
        ):
            used.setdefault(name, value if kind == "-" else "")
    example = dict(re.findall(r"^#(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    of_compose = {"COMPOSE_FILE", "COMPOSE_PROFILES"}
    assert example.keys() - of_compose == used.keys()
    assert {name: value for name, value in example.items() if used.get(name, value) != value} == {}


@pytest.mark.parametrize("path", ["pipeline/Dockerfile", "serving/Dockerfile"])
def test_images_hold_what_the_locks_name_and_run_as_nobody_special(path: str) -> None:
    """Programs are process 1, and signals reach them."""
    text = (ROOT / path).read_text()
    assert text.count("--require-hashes") == text.count("pip install")
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    assert all(
        line.startswith(("ENTRYPOINT [", "CMD [")) for line in text.splitlines() if re.match(r"ENTRYPOINT|CMD", line)
    )


def test_the_image_without_cuda_runs_the_same_onnxruntime() -> None:
    """Or known answers might come out otherwise there."""

    def version(lock: str, package: str) -> str:
        found = re.search(rf"^{package}==(\S+)", (ROOT / "requirements" / lock).read_text(), re.MULTILINE)
        assert found, f"{lock} has no {package}"
        return found[1]

    same = version("serving-cpu.txt", "onnxruntime")
    assert same == version("serving-cuda.txt", "onnxruntime-gpu") == version("pipeline.txt", "onnxruntime-gpu")


def test_images_are_made_of_the_programs_alone() -> None:
    """What is not named stays outside: secrets, work in progress, tests."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    named = {Path(line[1:]) for line in lines if line.startswith("!")}
    assert {ROOT / path for path in named} <= {ROOT / path for path in named if (ROOT / path).exists()}
