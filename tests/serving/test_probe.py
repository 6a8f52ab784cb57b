"""The probe that watches containers."""

from pathlib import Path

import pytest

from serving.probe import main
from tests.programs import ServerProcess, server_process
from tests.serving.certificates import Authority
from tests.serving.conftest import Publisher
from tests.serving.test_envoy import Start, start

__all__ = ["start"]


def test_it_says_whether_a_server_serves(
    publisher: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the health protocol: 1 without a model, 0 with one."""
    with server_process(publisher.root, tmp_path / "log", "--poll-ms", "20") as server:
        assert main([server.address]) == 1
        assert "says NOT_SERVING" in capsys.readouterr().out
        publisher.publish(1)
        assert _soon(server)
        assert "says SERVING" in capsys.readouterr().out.splitlines()[-1]


def test_it_asks_by_http_and_https_too(start: Start, tmp_path: Path) -> None:
    """GET /healthz; whether others trust the certificate is not the question."""
    certificate, key = Authority(tmp_path / "authority").issue("elsewhere")
    assert main(["--http", start().address]) == 0
    secure = start("--tls-certificate", str(certificate), "--tls-key", str(key), name="secure")
    assert main(["--https", secure.address]) == 0


@pytest.mark.parametrize("way", [[], ["--http"], ["--https"]], ids=["gRPC", "HTTP", "HTTPS"])
def test_nobody_there_is_one_line_and_exit_code_1(way: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """For the log of whoever watches."""
    assert main([*way, "127.0.0.1:1"]) == 1
    assert "127.0.0.1:1 does not answer" in capsys.readouterr().out


def _soon(server: ServerProcess) -> bool:
    return any(main([server.address]) == 0 for _ in range(100))
