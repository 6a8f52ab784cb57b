"""Keeps in the history that a candidate was refused; nothing else of it is kept."""

from pathlib import Path

from pipeline.versions.repository import ModelRepository
from protos.artifact.v1.manifest_pb2 import Manifest


def reject(repository: Path, description: Manifest, reason: str) -> None:
    """Write why the candidate that `description` describes was refused; raises PublishError."""
    model = ModelRepository(repository / description.model_name)
    with model.writing():
        model.reject(reason, description.fingerprint)
