"""The confirmation: a running server is asked which version answers."""

import threading
import time
from pathlib import Path

import pytest

from pipeline.confirm import confirm
from pipeline.errors import ConfirmError
from tests.pipeline.candidates import Candidate
from tests.pipeline.test_rehearse import own_answers
from tests.programs import server_process


@pytest.fixture
def repository(candidate: Candidate, tmp_path: Path) -> Path:
    """A repository with one version."""
    candidate.publish(tmp_path / "repository")
    return tmp_path / "repository"


@pytest.fixture
def better(candidate: Candidate, tmp_path: Path) -> Candidate:
    """Another model that a server takes."""
    other = candidate.spoilt(tmp_path / "better", by=0.001)
    own_answers(other)
    return other


def test_a_server_that_has_it_confirms_at_once(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sentence names server, version and provider; no proxy of the environment is asked for this machine."""
    for name in ("grpc_proxy", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with server_process(repository, tmp_path / "log", "--provider", "cpu") as server:
        said = confirm(repository, "digits", server.address)
    assert said == f"{server.address} answers with version 1 on CPUExecutionProvider"


def test_a_server_that_takes_its_time_is_waited_for(repository: Path, better: Candidate, tmp_path: Path) -> None:
    """It looks at CURRENT now and then."""
    with server_process(repository, tmp_path / "log", "--provider", "cpu", "--poll-ms", "2000") as server:
        better.publish(repository)
        assert "answers with version 2" in confirm(repository, "digits", server.address)


def test_a_server_that_starts_later_is_waited_for(repository: Path, tmp_path: Path) -> None:
    """Nobody listens yet."""
    said: list[str] = []
    with server_process(repository, tmp_path / "first", "--provider", "cpu") as server:
        address = server.address
    waiting = threading.Thread(target=lambda: said.append(confirm(repository, "digits", address)))
    waiting.start()
    time.sleep(0.5)
    port = address.rpartition(":")[2]
    with server_process(repository, tmp_path / "second", "--provider", "cpu", "--port", port):
        waiting.join(60)
    assert said == [f"{address} answers with version 1 on CPUExecutionProvider"]


def test_a_server_that_refuses_it_is_told_at_once(repository: Path, candidate: Candidate, tmp_path: Path) -> None:
    """With the server's own reason: known answers of another model."""
    with server_process(repository, tmp_path / "log", "--provider", "cpu") as server:
        candidate.spoilt(tmp_path / "wrong", by=0.3).publish(repository)
        with pytest.raises(ConfirmError, match=r"version 2 is published and current, but .* refuses it: known answers"):
            confirm(repository, "digits", server.address, within_s=3600)


def test_a_server_of_another_repository_is_told(repository: Path, better: Candidate, tmp_path: Path) -> None:
    """Its version has the same number and other bytes."""
    better.publish(tmp_path / "elsewhere")
    with (
        server_process(tmp_path / "elsewhere", tmp_path / "log", "--provider", "cpu") as server,
        pytest.raises(ConfirmError, match=r"after 1 s .* answers with version 1 of digits; does it serve "),
    ):
        confirm(repository, "digits", server.address, within_s=1)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-host.invalid:50051", "nonsense"])
def test_nobody_there_is_an_error_within_the_limit(repository: Path, address: str) -> None:
    """It says that the version is published all the same."""
    began = time.monotonic()
    with pytest.raises(ConfirmError, match=r"version 1 is published and current, but after 1 s .*UNAVAILABLE"):
        confirm(repository, "digits", address, within_s=1)
    assert time.monotonic() - began < 60
