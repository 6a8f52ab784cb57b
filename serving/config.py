"""Every setting of the server: argument > environment > default, checked all at once."""

import argparse
import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from serving.errors import SettingsError
from serving.session import Provider
from serving.telemetry.logs import Format
from serving.versions.repository import WORDS

PREFIX = "SERVING_"

ENVOY_ONLY = {
    *("tls_certificate", "tls_key", "tls_client_ca", "cors_origins", "static_files", "access_log"),
    *("max_connections", "max_concurrent_streams", "request_timeout_s", "idle_timeout_s"),
}
GRPCIO_ONLY = {"listeners"}
"""Settings that the other transport does not know: better refused than without effect."""


class Settings(BaseModel):
    """What `python -m serving serve` can be told. docs/settings.md is this class as a table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    repository: Path = Field(Path("model_repository"), description="the model repository, a folder; it is only read")
    model: str = Field("digits", pattern=r"^[A-Za-z0-9_-]+$", description="the model in it to serve")
    versions: str = Field(
        "current",
        description="the versions that answer by number: current (always does), previous and numbers, with commas",
    )
    host: str = Field("127.0.0.1", min_length=1, description="the address to listen on; 0.0.0.0 for every interface")
    port: int = Field(50051, ge=0, le=65535, description="the port to listen on; 0 takes a free one and prints it")
    transport: Literal["grpcio", "envoy"] = Field(
        "grpcio",
        description="what takes the calls: grpcio, or Envoy with Python inside (also gRPC-Web, HTTP/JSON, TLS)",
    )
    workers: int = Field(1, ge=1, le=64, description="processes that share the port")
    listeners: int = Field(
        4, ge=1, le=64, description="gRPC listeners of a process on that port; each takes one call at a time"
    )
    tls_certificate: Path | None = Field(
        None, description="a PEM file, the certificate and what it rests on; read again when it changes"
    )
    tls_key: Path | None = Field(None, description="a PEM file, the certificate's private key")
    tls_client_ca: Path | None = Field(
        None, description="a PEM file; callers must show a certificate of one of these authorities"
    )
    cors_origins: str | None = Field(
        None, min_length=1, description="origins whose pages may call, with commas between, or *; none unless it is set"
    )
    static_files: Path | None = Field(None, description="a folder whose files are served by GET, index.html for /")
    access_log: Path | None = Field(
        None,
        description="a file that gets a line of JSON for every request, such as /dev/stderr; none unless it is set",
    )
    max_connections: int = Field(4096, ge=1, le=2**20, description="connections at the same time at most")
    max_concurrent_streams: int = Field(
        1024, ge=1, le=2**20, description="calls at the same time on one HTTP/2 connection at most"
    )
    request_timeout_s: float = Field(
        60,
        gt=0,
        le=86_400,
        description="seconds in which a request must be there, and in which anything must happen to it",
    )
    idle_timeout_s: float = Field(
        3600, gt=0, le=7 * 86_400, description="seconds after which a connection without a call is closed"
    )
    spin_us: float = Field(
        300, ge=0, le=100_000, description="microseconds after an answer in which the event loop does not sleep"
    )
    metrics_port: int | None = Field(
        None, ge=0, le=65535, description="the port for Prometheus; 0 takes a free one; none unless it is set"
    )
    provider: Provider = Field("auto", description="where the model runs: cuda, cpu, or auto (cuda where it works)")
    threads: int = Field(1, ge=1, le=256, description="threads that one run of the model uses on the CPU")
    concurrent_runs: int = Field(2, ge=1, le=64, description="runs of the model at the same time")
    max_image_count: int = Field(1024, ge=1, le=65536, description="images in one call at most")
    max_batch_images: int = Field(
        128, ge=1, le=65536, description="images in one run at most; a call with more is split over several"
    )
    max_wait_ms: float = Field(
        0, ge=0, le=1000, description="milliseconds that a free worker waits for a batch to fill; rarely better than 0"
    )
    max_queue_ms: float = Field(
        250, gt=0, le=60_000, description="milliseconds of work that may wait for a run; more is refused"
    )
    max_queue_images: int = Field(8192, ge=1, le=2**24, description="images that may wait for a run; more are refused")
    max_photo_pixels: int = Field(
        2**25, ge=1, le=2**28, description="pixels of one photo at most, looked at before it is decoded"
    )
    max_message_bytes: int = Field(4 * 2**20, ge=1024, le=2**30, description="bytes of one request at most")
    poll_ms: int = Field(250, ge=10, le=60_000, description="milliseconds between two looks at CURRENT")
    drain_s: float = Field(10.0, ge=0, le=3600, description="seconds that calls in flight get after SIGTERM")
    drain_linger_s: float = Field(
        0.5, ge=0, le=60, description="seconds that new calls find an open port and a refusal"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="what is logged, to stderr")
    log_format: Format = Field("text", description="how it is written: text, or json, one object a line")
    otlp_endpoint: str | None = Field(
        None,
        pattern=r"^https?://[^/\s]+/?$",
        description="where traces go, by OTLP over gRPC, such as http://localhost:4317; none unless it is set",
    )

    @field_validator("versions")
    @classmethod
    def _are_versions(cls, versions: str) -> str:
        words = [word.strip() for word in versions.split(",")]
        if not all(word in WORDS or (word.isdecimal() and 1 <= int(word) < 2**31) for word in words):
            raise ValueError(
                "expected current, previous and numbers from 1 upwards, with commas between, such as current,previous,3"
            )
        return ",".join(words)

    @model_validator(mode="after")
    def _queue_holds_a_call(self) -> Self:
        if self.max_queue_images < self.max_image_count:
            raise ValueError(
                f"max_queue_images is {self.max_queue_images}, expected at least max_image_count, "
                f"{self.max_image_count}: else a large call is refused for ever"
            )
        return self

    @model_validator(mode="after")
    def _transport_knows_what_is_set(self) -> Self:
        unknown = ENVOY_ONLY if self.transport == "grpcio" else GRPCIO_ONLY
        if set_here := sorted(unknown & self.model_fields_set):
            raise ValueError(
                f"transport is {self.transport}, which knows no {', '.join(set_here)} "
                f"(docs/transports.md says what each transport knows)"
            )
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together, expected both or none")
        if self.tls_client_ca and not self.tls_certificate:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key: without TLS nobody shows a certificate")
        return self

    @classmethod
    def read(cls, arguments: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Self:
        """Settings from arguments (None where not given) and environment; raises SettingsError with every fault."""
        from_environment = {
            name.removeprefix(PREFIX).lower(): value for name, value in environment.items() if name.startswith(PREFIX)
        }
        given = {name: value for name, value in arguments.items() if value is not None}
        try:
            return cls.model_validate({**from_environment, **given})
        except ValidationError as error:
            raise SettingsError("; ".join(_describe(fault, given) for fault in error.errors())) from error


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One option a setting."""
    for name, field in Settings.model_fields.items():
        parser.add_argument(
            option(name),
            metavar=name.rsplit("_", maxsplit=1)[-1].upper(),
            help=f"{field.description} (default: {field.default}; environment: {PREFIX}{name.upper()})",
        )


def option(name: str) -> str:
    """The command-line option of a setting."""
    return f"--{name.replace('_', '-')}"


def _describe(fault: Any, arguments: Mapping[str, Any]) -> str:
    if not fault["loc"]:
        return str(fault["ctx"]["error"])
    name = str(fault["loc"][0])
    shown = option(name) if name in arguments else f"{PREFIX}{name.upper()}"
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, Settings.model_fields, n=1)
        hint = f"; did you mean {PREFIX}{near[0].upper()}?" if near else ""
        return f"{shown}: there is no such setting{hint}"
    expected = (
        str(fault["ctx"]["error"]) if fault["type"] == "value_error" else fault["msg"][0].lower() + fault["msg"][1:]
    )
    return f"{shown}: {expected}, came {fault['input']!r}"
