"""How programs here are told what to do: argument > environment > default, checked all at once."""

import argparse
import difflib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from serving.errors import SettingsError
from serving.telemetry.logs import Format


class BaseSettings(BaseModel):
    """The settings of a program; `PREFIX` is how the names of its environment variables begin."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    PREFIX: ClassVar[str]
    REMOVED: ClassVar[Mapping[str, str]] = {}
    """Settings of the version before, and why they have gone: accepted, with a warning on stderr."""

    @classmethod
    def read(cls, arguments: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> Self:
        """Settings from arguments (None where not given) and environment; raises SettingsError with every fault."""
        from_environment = {
            name.removeprefix(cls.PREFIX).lower(): value
            for name, value in environment.items()
            if name.startswith(cls.PREFIX)
        }
        given = {name: value for name, value in arguments.items() if name in cls.model_fields and value is not None}
        for name, reason in cls.REMOVED.items():
            if arguments.get(name) is not None or from_environment.pop(name, None) is not None:
                print(f"warning: {option(name)} has no effect any more: {reason}", file=sys.stderr)
        try:
            return cls.model_validate({**from_environment, **given})
        except ValidationError as error:
            raise SettingsError("; ".join(cls._describe(fault, given) for fault in error.errors())) from error

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """One option a setting."""
        for name, field in cls.model_fields.items():
            parser.add_argument(
                option(name),
                metavar=name.rsplit("_", maxsplit=1)[-1].upper(),
                help=f"{field.description} (default: {field.default}; environment: {cls.PREFIX}{name.upper()})",
            )
        for name in cls.REMOVED:
            parser.add_argument(option(name), help=argparse.SUPPRESS)

    @classmethod
    def _describe(cls, fault: Any, arguments: Mapping[str, Any]) -> str:
        if not fault["loc"]:
            return str(fault["ctx"]["error"])
        name = str(fault["loc"][0])
        shown = option(name) if name in arguments else f"{cls.PREFIX}{name.upper()}"
        if fault["type"] == "extra_forbidden":
            near = difflib.get_close_matches(name, cls.model_fields, n=1)
            hint = f"; did you mean {cls.PREFIX}{near[0].upper()}?" if near else ""
            return f"{shown}: there is no such setting{hint}"
        expected = (
            str(fault["ctx"]["error"]) if fault["type"] == "value_error" else fault["msg"][0].lower() + fault["msg"][1:]
        )
        return f"{shown}: {expected}, came {fault['input']!r}"


class ListenerSettings(BaseSettings):
    """What is told to whoever takes calls from outside: the server, and the door before several servers."""

    host: str = Field("127.0.0.1", min_length=1, description="the address to listen on; 0.0.0.0 for every interface")
    port: int = Field(50051, ge=0, le=65535, description="the port to listen on; 0 takes a free one and prints it")
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
    max_message_bytes: int = Field(4 * 2**20, ge=1024, le=2**30, description="bytes of one request at most")
    metrics_port: int | None = Field(
        None, ge=0, le=65535, description="the port for Prometheus; 0 takes a free one; none unless it is set"
    )
    drain_s: float = Field(10.0, ge=0, le=3600, description="seconds that calls in flight get after SIGTERM")
    drain_linger_s: float = Field(
        0.5, ge=0, le=60, description="seconds that new calls find an open port and a refusal"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="what is logged, to stderr")
    log_format: Format = Field("text", description="how it is written: text, or json, one object a line")

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together, expected both or none")
        if self.tls_client_ca and not self.tls_certificate:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key: without TLS nobody shows a certificate")
        return self


def option(name: str) -> str:
    """The command-line option of a setting."""
    return f"--{name.replace('_', '-')}"
