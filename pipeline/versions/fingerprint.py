"""Whether there is anything to do: of the same data, config, code, packages and device a run makes the same version.

The code is hashed as it lies there, not by its git revision: a commit that touches only the docs starts no training, a
changed file that is not committed does, and an image without git has the same fingerprint as a checkout.
"""

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from pipeline.config import Preset
from pipeline.errors import PublishError
from pipeline.versions.provenance import PACKAGES, package_versions
from pipeline.versions.repository import ModelRepository

REHEARSED_WITH = ("grpcio", "protobuf", "uvloop", "pydantic")
CHANGES = ("publish", "promote", "rollback")  # the events that change CURRENT


@dataclass(frozen=True)
class Made:
    """What an earlier run of the same fingerprint came to."""

    version: int
    """The version that it made, 0 where it was refused."""
    reason: str


def fingerprint_of(sha256: Mapping[str, str], preset: Preset, device: torch.device, sources: str) -> str:
    """Hash what a run is made of, 64 hexadecimal digits; `sha256` are the digests of its data, `sources` its code's."""
    parts = {
        "data": dict(sha256),
        "config": preset.model_dump(mode="json"),
        "code": sources,
        "packages": {"python": platform.python_version(), **package_versions((*PACKAGES, *REHEARSED_WITH))},
        "device": device.type,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def find_made(model: ModelRepository, fingerprint: str) -> Made | None:
    """What came of the newest run with this fingerprint; None where none is known, or its version is not whole.

    None too where there are versions and CURRENT cannot be read, and for a version that CURRENT never named: the writer
    of either was killed, and the run that comes now finishes its work.
    """
    if not model.current().version and model.versions():
        return None
    version = next((version for version in _made_versions(model, fingerprint) if model.is_servable(version)), None)
    if version is not None:
        current = model.current().version
        stays = "" if current == version else f"; version {current} stays current"
        return Made(version, f"version {version} is what these data, config and code make{stays}")
    return _refusal(model, fingerprint)


def _made_versions(model: ModelRepository, fingerprint: str) -> Iterator[int]:
    """The published versions that runs of this fingerprint made, the newest first."""
    history = model.history.entries()
    repeats = {entry.version for entry in history if entry.fingerprint == fingerprint}
    published = {entry.version for entry in history if entry.event in CHANGES}
    for version in reversed([version for version in model.versions() if version in published]):
        if version in repeats or _manifest_fingerprint(model, version) == fingerprint:
            yield version


def _manifest_fingerprint(model: ModelRepository, version: int) -> str:
    try:
        return model.manifest(version).fingerprint
    except PublishError:
        return ""


def _refusal(model: ModelRepository, fingerprint: str) -> Made | None:
    """A refusal since CURRENT last changed; beside another champion the gates might decide otherwise."""
    for entry in reversed(model.history.entries()):
        if entry.event in CHANGES:
            return None
        if entry.event == "reject" and entry.fingerprint == fingerprint:
            return Made(0, f"the same candidate was refused on {entry.time.ToDatetime():%Y-%m-%d}: {entry.reason}")
    return None
