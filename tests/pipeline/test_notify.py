"""Whoever is to be told of a run is told, over real HTTP; whoever does not listen does no harm."""

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

import pytest

from pipeline.errors import DataError
from pipeline.outcome import Outcome, Stopped
from pipeline.request import Request
from pipeline.scheduling.attempt import attempt
from pipeline.scheduling.lock import only_run
from pipeline.scheduling.notify import NOTIFY_URL, Notice, Patience, notify
from tests.pipeline.presets import write_preset
from tests.pipeline.receiver import receiving

NOTICE = Notice("refused", "digits", "floor: 81 % is below 90 %")
QUICK = Patience(pause_s=0.01, timeout_s=0.2)


def test_a_notice_says_what_happened_where_and_when() -> None:
    """In a text for people, and in parts for programs."""
    with receiving() as receiver:
        assert notify(receiver.url, NOTICE)
    (told,) = receiver.notices
    host = socket.gethostname()
    assert told["text"] == f"digits: the run was refused on {host}: floor: 81 % is below 90 %"
    assert (told["event"], told["model"], told["reason"], told["host"]) == ("refused", "digits", NOTICE.reason, host)
    assert abs((datetime.now(UTC) - datetime.fromisoformat(told["time"])).total_seconds()) < 60


def test_a_receiver_that_stumbles_is_tried_again() -> None:
    """Twice."""
    with receiving(failures=2) as receiver:
        assert notify(receiver.url, NOTICE, QUICK)
    assert receiver.request_count == 3


def test_a_receiver_that_is_down_is_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """It does not name the address, which is a webhook's secret."""
    with receiving(failures=3) as receiver, caplog.at_level(logging.WARNING):
        assert not notify(receiver.url, NOTICE, QUICK)
    assert not notify(receiver.url, NOTICE, QUICK)  # nobody listens there any more
    assert "HTTP status 503" in caplog.text
    assert "Connection refused" in caplog.text
    assert "secret" not in caplog.text


def test_a_receiver_that_never_answers_is_given_up() -> None:
    """After its timeouts."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        assert not notify(f"http://127.0.0.1:{silent.getsockname()[1]}/", NOTICE, QUICK)
    assert time.monotonic() - began < 60


@pytest.mark.parametrize("url", ["file:///etc/passwd", "example", "http://", "http://[", "http://a b/"])
def test_what_is_no_address_is_a_line_in_the_log(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """No file is read, and nothing is raised."""
    assert not notify(url, NOTICE, QUICK)
    assert "was not notified" in caplog.text


SECRET = "s3cret"  # noqa: S105 - of the tests
ANSWERS = {
    "repeats the path in its status": b"HTTP/1.1 404 no /hooks/s3cret?key=s3cret here\r\nContent-Length: 0\r\n\r\n",
    "redirects": b"HTTP/1.1 302 Found\r\nLocation: /hooks/s3cret/\r\nContent-Length: 0\r\n\r\n",
    "speaks no HTTP": b"POST /hooks/s3cret?key=s3cret\r\n\r\n",
    "hangs up": b"",
    "never answers": None,
}


@contextmanager
def answering(answer: bytes | None) -> Iterator[int]:
    """A server that sends every caller these bytes, or nothing; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as callers:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    caller = callers.enter_context(listener.accept()[0])
                    if answer is not None:
                        caller.recv(65536)
                        caller.sendall(answer)
                        caller.shutdown(socket.SHUT_WR)

        thread = Thread(target=serve)
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=[f"a receiver that {name}" for name in ANSWERS])
def test_the_log_names_the_host_of_a_webhook_alone(answer: bytes | None, caplog: pytest.LogCaptureFixture) -> None:
    """User, path and query are secrets, which a receiver's answer may repeat."""
    with answering(answer) as port:
        assert not notify(f"http://{SECRET}:{SECRET}@127.0.0.1:{port}/hooks/{SECRET}?key={SECRET}", NOTICE, QUICK)
    assert f"http://127.0.0.1:{port} was not notified" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/s3cret",
        "http://127.0.0.1:1/s3cret with a space",
        "http://127.0.0.1:1/s3cr\u00e9t?s3cret",
        "http://127.0.0.1:s3cret/",
        "https://[s3cret",
        "http:/s3cret",
        "s3cret",
        "s3cret://s3cret/s3cret",
        "http://127.0.0.1:1/\ns3cret",
    ],
)
def test_no_secret_of_an_unusable_address_is_logged(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither of one that refuses nor of what is not a URL."""
    assert not notify(url, NOTICE, QUICK)
    assert "was not notified" in caplog.text
    assert SECRET not in caplog.text


def test_a_request_does_not_show_its_webhook() -> None:
    """Where a request is printed or logged."""
    assert SECRET not in repr(Request(notify_url=f"http://127.0.0.1/{SECRET}"))


def test_the_environment_names_a_receiver(monkeypatch: pytest.MonkeyPatch) -> None:
    """PIPELINE_NOTIFY_URL, where the request names none."""
    with receiving() as receiver:
        monkeypatch.setenv(NOTIFY_URL, receiver.url)
        assert notify(None, NOTICE)
    assert len(receiver.notices) == 1


def test_without_a_receiver_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """That is the default."""
    monkeypatch.delenv(NOTIFY_URL, raising=False)
    assert not notify(None, NOTICE)


def test_a_run_that_fails_tells_why_and_fails_as_ever(tmp_path: Path) -> None:
    """The error that stopped it."""
    with receiving() as receiver:
        request = Request(repository=tmp_path, device="cpu", dataset=tmp_path / "nowhere", notify_url=receiver.url)
        with pytest.raises(DataError):
            attempt(request)
    (told,) = receiver.notices
    assert told["event"] == "failed"
    assert "DataError" in told["reason"]
    assert "nowhere" in told["reason"]


def test_a_run_that_is_refused_tells_which_gate_and_why(small_folder: Path, tmp_path: Path) -> None:
    """It is no failure, and somebody wants to know all the same."""
    preset = write_preset(tmp_path / "strict.toml", epochs="1", floor="0.9999")
    with receiving() as receiver:
        request = Request(tmp_path, preset=str(preset), device="cpu", dataset=small_folder, notify_url=receiver.url)
        outcome = attempt(request)
    assert isinstance(outcome, Outcome)
    (told,) = receiver.notices
    assert (told["event"], told["reason"]) == ("refused", str(outcome.refusal))
    assert told["reason"].startswith("floor: ")


def test_a_schedule_that_cannot_be_asked_is_a_failure_too(tmp_path: Path) -> None:
    """Prefect's server, say: nobody else can tell of it then."""

    def unreachable() -> Stopped | None:
        raise ConnectionError("the server of the schedule is gone")

    with receiving() as receiver, pytest.raises(ConnectionError):
        attempt(Request(tmp_path, notify_url=receiver.url), made_up_for=unreachable)
    assert receiver.notices[0]["event"] == "failed"


def test_a_run_beside_another_is_skipped_and_nobody_is_told(tmp_path: Path) -> None:
    """The other one will tell what there is to tell."""
    with receiving() as receiver, only_run(tmp_path / "digits"):
        ended = attempt(Request(repository=tmp_path, notify_url=receiver.url))
    assert isinstance(ended, Stopped)
    assert ended.name == "Skipped"
    assert not receiver.notices
