"""Every setting of the server."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from serving.provider import Provider
from serving.settings import ListenerSettings
from serving.versions.repository import WORDS

ENVOY_ONLY = {"tls_certificate", "tls_key", "tls_client_ca", "cors_origins", "static_files", "access_log"}
LIMITS = {"max_connections", "max_concurrent_streams", "request_timeout_s", "idle_timeout_s"}
UNKNOWN: Mapping[str, set[str]] = {"http2": ENVOY_ONLY, "envoy": set(), "grpcio": ENVOY_ONLY | LIMITS}
"""Settings that a transport does not know: better refused than without effect."""


class Settings(ListenerSettings):
    """What `python -m serving serve` can be told. docs/settings.md is this class as a table."""

    PREFIX: ClassVar[str] = "SERVING_"
    REMOVED: ClassVar[Mapping[str, str]] = {
        "max_wait_ms": "an idle server never waits for a batch to fill",
        "listeners": "one event loop takes all connections",
        "spin_us": "the event loop sleeps when there is nothing to do",
    }

    repository: Path = Field(Path("model_repository"), description="the model repository, a folder; it is only read")
    model: str = Field("digits", pattern=r"^[A-Za-z0-9_-]+$", description="the model in it to serve")
    versions: str = Field(
        "current",
        description="the versions that answer by number: current (always does), previous and numbers, with commas",
    )
    transport: Literal["http2", "envoy", "grpcio"] = Field(
        "http2",
        description="what takes the calls: http2 (gRPC in the server's own event loop), envoy (Envoy with Python "
        "inside: also gRPC-Web, HTTP/JSON, TLS), or grpcio (deprecated)",
    )
    workers: int = Field(1, ge=1, le=64, description="processes that share the port")
    provider: Provider = Field("auto", description="where the model runs: cuda, cpu, or auto (cuda where it works)")
    threads: int = Field(1, ge=1, le=256, description="threads that one run of the model uses on the CPU")
    concurrent_runs: int = Field(2, ge=1, le=64, description="runs of the model at the same time")
    max_image_count: int = Field(1024, ge=1, le=65536, description="images in one call at most")
    gpu_memory_mib: int | None = Field(
        None,
        ge=16,
        le=2**20,
        description="MiB of a card's memory that the runs of one model take at most; all unless it is set",
    )
    max_batch_images: int | None = Field(
        None,
        ge=1,
        le=65536,
        description="images in one run at most; a call with more is split over several (unset: 128 on the CPU, 1024 on "
        "CUDA)",
    )
    max_queue_ms: float = Field(
        250, gt=0, le=60_000, description="milliseconds of work that may wait for a run; more is refused"
    )
    max_queue_images: int = Field(8192, ge=1, le=2**24, description="images that may wait for a run; more are refused")
    max_photo_pixels: int = Field(
        2**25, ge=1, le=2**28, description="pixels of one photo at most, looked at before it is decoded"
    )
    poll_ms: int = Field(250, ge=10, le=60_000, description="milliseconds between two polls of CURRENT")
    load_timeout_s: float = Field(
        120.0,
        ge=0.1,
        le=3600,
        description="timeout in seconds for loading and verifying a version",
    )
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
        unknown = UNKNOWN[self.transport]
        if set_here := sorted(unknown & self.model_fields_set):
            raise ValueError(
                f"transport is {self.transport}, which knows no {', '.join(set_here)} "
                f"(docs/transports.md says what each transport knows)"
            )
        return self
