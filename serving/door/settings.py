"""Every setting of the door."""

import re
from pathlib import Path
from typing import ClassVar

from pydantic import Field, field_validator

from serving.settings import ListenerSettings


class DoorSettings(ListenerSettings):
    """What `python -m serving.door` can be told. docs/door.md has this class as a table."""

    PREFIX: ClassVar[str] = "DOOR_"

    port: int = Field(8080, ge=0, le=65535, description="the port to listen on; 0 takes a free one and prints it")
    static_files: Path | None = Field(
        None,
        description="a folder whose files are served by GET, index.html for /; the page to draw on unless it is set",
    )
    access_log: Path | None = Field(
        None,
        description="a file that gets a line of JSON for every request, such as /dev/stdout; none unless it is set",
    )
    replicas: str = Field(
        "127.0.0.1:50051",
        description="the servers behind the door, HOST:PORT with commas between; every address of a name is one",
    )
    retries: int = Field(
        2, ge=0, le=10, description="other replicas that are tried for a call which the first one has not begun"
    )
    max_calls: int = Field(
        4096, ge=1, le=2**20, description="calls at the same time on all replicas at most; more are refused"
    )
    max_calls_per_s: int = Field(
        0, ge=0, le=10**6, description="calls a second at most, of all callers together; 0 for any number"
    )
    max_calls_per_s_and_address: int = Field(
        0, ge=0, le=10**6, description="calls a second at most from one address; 0 for any number"
    )
    check_interval_s: float = Field(
        1, ge=0.1, le=60, description="seconds between two looks at the health of a replica"
    )
    ejection_s: float = Field(
        5,
        ge=0.1,
        le=3600,
        description="seconds that a replica which fails calls gets none; longer each time it happens",
    )
    threads: int = Field(2, ge=1, le=64, description="threads of Envoy")

    @field_validator("replicas")
    @classmethod
    def _are_addresses(cls, replicas: str) -> str:
        found = [replica.strip() for replica in replicas.split(",")]
        if not all(re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}", replica) for replica in found):
            raise ValueError("expected HOST:PORT, with commas between, such as serving-1:50051,serving-2:50051")
        return ",".join(found)

    @property
    def replica_addresses(self) -> list[tuple[str, int]]:
        """The host and the port of each."""
        parts = (replica.rpartition(":") for replica in self.replicas.split(","))
        return [(host.strip("[]"), int(port)) for host, _, port in parts]
