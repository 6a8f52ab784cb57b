"""openapi.json: made of the protos, and true of the running service."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from scripts.openapi import DESTINATION, as_text, describe, read_proto
from tests.programs import server_process
from tests.serving.conftest import Publisher
from tests.serving.doors import door_process

DESCRIPTION: dict[str, Any] = json.loads(DESTINATION.read_text())
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]

schema = schemathesis.openapi.from_dict(DESCRIPTION)


def test_it_is_what_the_protos_say() -> None:
    """Else `make protos` was forgotten."""
    assert DESTINATION.read_text() == as_text(describe(read_proto()))


def test_it_explains_everything() -> None:
    """Each operation, each message and each field."""
    for path in DESCRIPTION["paths"].values():
        assert all(operation["summary"] for operation in path.values())
    for name, message in DESCRIPTION["components"]["schemas"].items():
        assert message["description"], name
        for field, told in message["properties"].items():
            assert told["description"], f"{name}.{field}"


@pytest.fixture(scope="module", params=["a server with Envoy", "a door before a server"])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a service that has a model."""
    folder: Path = tmp_path_factory.mktemp("service")
    publisher = Publisher(folder / "repository")
    publisher.publish(1)
    has_door = request.param != "a server with Envoy"
    options = ("--provider", "cpu", *(() if has_door else ("--transport", "envoy")))
    with server_process(publisher.root, folder / "server.log", *options) as server:
        if not has_door:
            yield f"http://{server.address}"
            return
        with door_process([server.address], folder / "door.log") as door:
            yield f"http://{door.address}"


@pytest.mark.timeout(300)
@schema.parametrize()
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_running_service_is_as_described(case: schemathesis.Case[Any], service: str) -> None:
    """Whatever is sent, fitting or not: no fault of the server, and only answers that stand in the description."""
    case.call_and_validate(base_url=service, checks=CHECKS, timeout=30)
