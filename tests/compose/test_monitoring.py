"""The board and the alerts, with a real Prometheus that watches a real door and real servers."""

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.client import DigitClient
from serving.errors import ServingError
from serving.idx import read_images
from tests.programs import ROOT, ServerProcess, server_process
from tests.serving.conftest import MNIST, Publisher
from tests.serving.doors import door_process

PROMETHEUS = shutil.which("prometheus")
DEPLOY = ROOT / "deploy"
BOARD = json.loads((DEPLOY / "grafana" / "digits.json").read_text())
QUERIES = {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in BOARD["panels"]
    for target in panel.get("targets", [])
}
START_S = 60.0

pytestmark = [
    pytest.mark.skipif(PROMETHEUS is None, reason="there is no Prometheus here (Debian: prometheus)"),
    pytest.mark.xdist_group("monitoring"),
]


def ask(url: str, query: str) -> list[dict[str, Any]]:
    """What Prometheus finds."""
    with urllib.request.urlopen(f"{url}/api/v1/query?{urllib.parse.urlencode({'query': query})}", timeout=10) as answer:  # noqa: S310
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return found


def watch(folder: Path, door: ServerProcess, servers: list[ServerProcess]) -> Path:
    """Our configuration, for programs at other addresses, that looks often."""
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    targets = {"door": [door], "serving": servers}
    for job in config["scrape_configs"]:
        addresses = [f"127.0.0.1:{program.metrics_port}" for program in targets[job["job_name"]]]
        job["static_configs"] = [{"targets": addresses}]
    shutil.copy(DEPLOY / "prometheus" / "alerts.yml", folder)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    return folder / "prometheus.yml"


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of one that has watched some seconds of all kinds of calls."""
    folder = tmp_path_factory.mktemp("monitoring")
    publisher = Publisher(folder / "repository")
    publisher.publish(1)
    with ExitStack() as stack:
        options = ("--provider", "cpu", "--metrics-port", "0", "--poll-ms", "50")
        servers = [
            stack.enter_context(server_process(publisher.root, folder / f"{name}.log", *options)) for name in "ab"
        ]
        addresses = [server.address for server in servers]
        door = stack.enter_context(door_process(addresses, folder / "door.log", "--metrics-port", "0"))
        command = [
            str(PROMETHEUS),
            f"--config.file={watch(folder, door, servers)}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--web.listen-address=127.0.0.1:0",
        ]
        with (folder / "prometheus.log").open("w") as log:
            process = stack.enter_context(subprocess.Popen(command, stderr=log))
        stack.callback(process.kill)
        address = _address(folder / "prometheus.log")
        _until(lambda: _value(ask(address, "sum(up)")) == 3, folder / "prometheus.log")
        _call(door, publisher)
        yield address


def _address(log: Path) -> str:
    listening = re.compile(r"Listening on.*?address=(127\.0\.0\.1:\d+)")
    _until(lambda: listening.search(log.read_text()), log)
    found = listening.search(log.read_text())
    assert found
    return f"http://{found[1]}"


def _value(found: list[dict[str, Any]]) -> float:
    return float(found[0]["value"][1]) if found else 0


def _until(condition: Callable[[], object], log: Path) -> None:
    give_up = time.monotonic() + START_S
    while not condition():
        assert time.monotonic() < give_up, log.read_text()
        time.sleep(0.1)


def _call(door: ServerProcess, publisher: Publisher) -> None:
    """Good calls, wrong ones, a swap and a version that is refused."""
    images = read_images(MNIST / "t10k-images-idx3-ubyte.gz")[:8]
    began = time.monotonic()
    with DigitClient(door.address) as client:
        while (passed := time.monotonic() - began) < 9:
            for count in (8, 0):
                with suppress(ServingError):
                    client.classify(images[:count])
            time.sleep(0.02)
            if passed > 3 and not publisher.model.path(2).exists():
                publisher.publish(2)
            if passed > 5 and not publisher.model.path(9).exists():
                publisher.publish_copy(9, of=2, model=b"no model")


@pytest.mark.parametrize("title", sorted(QUERIES))
def test_every_query_of_the_board_finds_something(prometheus: str, title: str) -> None:
    """Numbers, with real names of real figures."""
    query = QUERIES[title].replace("$__rate_interval", "8s")
    found = ask(prometheus, query)
    if "retry" in query or "ejections" in query:
        query = re.sub(r"^sum\(rate\((.*)\[8s\]\)\)$", r"\1", query)
        found = ask(prometheus, query)  # nothing went wrong here: the figure is there, and 0
    assert found, query
    assert all(result["value"][1] not in ("NaN", "+Inf") for result in found), found


def test_the_board_tells_the_truth(prometheus: str) -> None:
    """Two replicas, version 2, codes as they were answered, a rejected version."""
    assert ask(prometheus, QUERIES["Replicas that serve A"])[0]["value"][1] == "2"
    assert {result["value"][1] for result in ask(prometheus, QUERIES["Model version A"])} == {"2"}
    codes = {result["metric"]["code"] for result in ask(prometheus, "sum by (code) (serving_calls_total) > 0")}
    assert codes >= {"OK", "INVALID_ARGUMENT"}
    assert ask(prometheus, "ALERTS{alertname='VersionIsRejected', alertstate='firing'}")


def test_alerts_ask_for_figures_that_there_are(prometheus: str) -> None:
    """A rule with a name that is none never fires."""
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
    for rule in rules:
        for name in set(re.findall(r"\b((?:serving|envoy)_\w+|up)\b(?=[{\[ )]|$)", rule["expr"])):
            if not name.endswith("_name"):
                assert ask(prometheus, name), f"{rule['alert']}: {name}"


def test_alerts_come_when_they_should() -> None:
    """`promtool test rules`, and a row for each in the handbook."""
    command = [str(shutil.which("promtool")), "test", "rules", "alerts_test.yml"]
    done = subprocess.run(command, cwd=DEPLOY / "prometheus", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"][0]["rules"]
    tested = (DEPLOY / "prometheus" / "alerts_test.yml").read_text()
    handbook = (ROOT / "docs" / "operations.md").read_text()
    for rule in rules:
        assert f"alertname: {rule['alert']}" in tested
        assert f"| {rule['alert']} |" in handbook
