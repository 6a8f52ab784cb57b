"""The log: text for a person, one JSON object a line for a program, nothing of a request in either."""

import json
import logging
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from serving.client import DigitClient
from serving.errors import InvalidRequestError
from serving.telemetry.logs import TEXT, JsonFormatter, TextFormatter
from tests.programs import run_program, server_process
from tests.serving.conftest import Publisher

SECRET = b"xQzJ"
"""A request's content that can be told from all else; four letters, so that it may name a part of a PNG file."""


def record(message: str, *arguments: object, **extra: object) -> logging.LogRecord:
    """A record as the logging module makes it."""
    made = logging.LogRecord("serving.x", logging.WARNING, __file__, 1, message, arguments, None)
    made.__dict__.update(extra)
    return made


def formatted(made: logging.LogRecord) -> dict[str, str]:
    """The record as JSON, read back."""
    line = JsonFormatter().format(made)
    assert "\n" not in line
    return dict(json.loads(line))


def test_a_record_is_one_json_object() -> None:
    """With exactly these fields."""
    made = record("two\nlines and %s", "é")
    line = formatted(made)
    assert line == {
        "time": line["time"],
        "level": "warning",
        "logger": "serving.x",
        "message": "two\nlines and é",
    }


def test_its_time_is_rfc_3339_in_utc_with_milliseconds() -> None:
    """Whatever the machine's time zone."""
    made = record("x")
    made.created = 1_700_000_000.0625
    assert formatted(made)["time"] == "2023-11-14T22:13:20.062Z"


def test_it_names_the_call_where_there_is_one() -> None:
    """Empty ids are left out."""
    line = formatted(record("x", request_id="abc", trace_id=""))
    assert line["request_id"] == "abc"
    assert "trace_id" not in line


def test_an_exception_is_one_field() -> None:
    """The whole traceback."""
    with pytest.raises(ValueError, match="seven") as error:
        int("seven")
    line = formatted(record("it failed", exc_info=(error.type, error.value, error.tb)))
    assert line["message"] == "it failed"
    assert line["exception"].startswith("Traceback")
    assert line["exception"].endswith("ValueError: invalid literal for int() with base 10: 'seven'")


FORGED = "x\r\n2026-01-01 00:00:00,000 INFO serving.x: forged\x1b[2K\x9b1m\u202e\u2028\x7f"


@pytest.mark.parametrize("formatter", [TextFormatter(TEXT), JsonFormatter()], ids=["text", "json"])
def test_a_record_is_one_line_whatever_it_quotes(formatter: logging.Formatter) -> None:
    """No second record can be forged, and no terminal be controlled."""
    line = formatter.format(record("peer %s", FORGED))
    assert line.isprintable()
    assert len(line.splitlines()) == 1


def test_no_line_of_a_traceback_looks_like_a_record() -> None:
    """Every further line is indented, and without control characters."""
    with pytest.raises(ValueError, match="forged") as error:
        raise ValueError(FORGED)
    made = record("it failed", exc_info=(error.type, error.value, error.tb))
    first, *others = TextFormatter(TEXT).format(made).split("\n")
    assert first.endswith("WARNING serving.x: it failed")
    assert others
    assert all(line.startswith("  ") and line.isprintable() for line in others)


def test_a_server_writes_no_forged_line(publisher: Publisher, tmp_path: Path) -> None:
    """The path of its repository is quoted in its log."""
    folder = tmp_path / "x\nFORGED"
    folder.mkdir()
    with server_process(folder, tmp_path / "log", "--provider", "cpu") as server:
        assert server.terminate() == 0
    log = (tmp_path / "log").read_text()
    assert "x\\nFORGED" in log
    assert not any(line.startswith("FORGED") for line in log.splitlines())


def log_lines(log: str) -> list[dict[str, str]]:
    """Every line of a log in JSON."""
    return [json.loads(line) for line in log.splitlines()]


def test_every_line_of_a_server_is_json(publisher: Publisher, tmp_path: Path, transport: str) -> None:
    """From start to drain, at debug, grpcio's and asyncio's own lines too."""
    publisher.publish(1)
    log = tmp_path / "log"
    options = ("--log-format", "json", "--log-level", "debug", "--transport", transport)
    with server_process(publisher.root, log, *options) as server:
        with DigitClient(server.address) as client:
            client.model()
        assert server.terminate() == 0
    lines = log_lines(log.read_text())
    of_the_transport = {"envoy.main"} if transport == "envoy" else set()
    assert {"serving.server", "serving.versions.repository", *of_the_transport} <= {line["logger"] for line in lines}
    assert lines[-1]["message"] == "stopped"
    assert all(datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0) for line in lines)


def test_so_are_the_last_words_of_one_that_cannot_start(publisher: Publisher, tmp_path: Path) -> None:
    """grpcio's core, which writes to stderr by itself, keeps silent."""
    publisher.publish(1)
    with server_process(publisher.root, tmp_path / "log") as server:
        port = server.address.rsplit(":", 1)[1]
        done = run_program(
            "serving",
            "serve",
            "--repository",
            publisher.root,
            "--port",
            port,
            "--log-format",
            "json",
            "--provider",
            "cpu",
        )
    assert done.returncode == 1
    (line,) = log_lines(done.stderr)
    assert (line["level"], line["logger"]) == ("critical", "serving.serve")
    assert f"cannot listen on 127.0.0.1:{port}" in line["message"]


def secret_png() -> bytes:
    """A PNG file that is all about the secret."""
    file, info = BytesIO(), PngInfo()
    info.add(SECRET.lower(), SECRET)
    info.add_text(SECRET.decode(), SECRET.decode())
    Image.frombytes("L", (28, 28), SECRET * (28 * 28 // 4)).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def test_nothing_of_a_request_is_logged(publisher: Publisher, tmp_path: Path, transport: str) -> None:
    """Pixels, PNG files, broken files and bytes that are no message: not at debug, not by any library."""
    publisher.publish(1)
    log = tmp_path / "log"
    with server_process(publisher.root, log, "--log-level", "debug", "--transport", transport) as server:
        pixels = np.frombuffer(SECRET * 28 * 7, np.uint8).reshape(1, 28, 28)
        with DigitClient(server.address) as client:
            client.classify(pixels)
            client.classify_png([secret_png()])
            for broken in (SECRET, secret_png()[:-100], secret_png().replace(b"IHDR", SECRET)):
                with pytest.raises(InvalidRequestError):
                    client.classify_png([broken])
        with grpc.insecure_channel(server.address) as channel:
            method: Any = channel.unary_unary("/digits.v1.DigitService/Classify")
            with pytest.raises(grpc.RpcError):
                method(b"\xff" + SECRET, timeout=60)
        assert server.terminate() == 0
    assert SECRET.decode().lower() not in log.read_text().lower()
    assert "IHDR" not in log.read_text()
