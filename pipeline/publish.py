"""Publishes a candidate: stage, rename to a new number, point CURRENT at it.

A crash at any point leaves the old version live and no half version visible; the next run finishes or clears the rest.
"""

from dataclasses import dataclass
from pathlib import Path

from pipeline.repository import (
    KNOWN_ANSWERS,
    MANIFEST,
    MODEL,
    STAGING,
    ModelRepository,
    sha256_of,
    sync_directory,
    to_json,
    write_durably,
)
from protos.artifact.v1.manifest_pb2 import File, Manifest

SCHEMA = "artifact/v1"


@dataclass(frozen=True)
class Publication:
    """What became of a candidate."""

    version: int
    path: Path
    is_new: bool
    """False where a version with the same bytes was there already."""
    current_version: int
    """What CURRENT names now: another version where this one had been published before and rolled back since."""


def publish(repository: Path, candidate: Path, description: Manifest) -> Publication:
    """Publish the files in `candidate` as the next version of the model that `description` names.

    `description` is a manifest without what only publishing knows: version, parent, files, time. The same model with
    the same labels is published once; CURRENT then stays as it is, so that a scheduled run never undoes a rollback.
    Raises PublishError.
    """
    model = ModelRepository(repository / description.model_name)
    with model.writing():
        version = _find_same(model, candidate, description)
        is_new = version is None
        if version is None:
            version = _create_version(model, candidate, description)
        if not _was_announced(model, version):
            model.point_at(version, "publish")
        if not is_new and description.fingerprint:
            model.note_repeat(version, description.fingerprint)
        return Publication(version, model.path(version), is_new, model.current().version)


def _find_same(model: ModelRepository, candidate: Path, description: Manifest) -> int | None:
    """The newest version with this model and these labels whose bytes are still whole."""
    digest = sha256_of(candidate / MODEL)
    for version in reversed(model.versions()):
        manifest = model.manifest(version)
        published = {file.path: file.sha256 for file in manifest.files}
        is_same = published.get(MODEL) == digest and manifest.labels == description.labels
        if is_same and model.is_whole(version):
            return version
    return None


def _was_announced(model: ModelRepository, version: int) -> bool:
    """Whether CURRENT ever named the version; if not, its writer was killed just before."""
    return any(entry.version == version for entry in model.history())


def _create_version(model: ModelRepository, candidate: Path, description: Manifest) -> int:
    version = model.next_version()
    staged = model.directory / STAGING / str(version)
    staged.mkdir(parents=True)
    for name in (MODEL, KNOWN_ANSWERS):
        write_durably(staged / name, (candidate / name).read_bytes())
    manifest = _manifest(model, staged, description, version)
    write_durably(staged / MANIFEST, to_json(manifest))
    sync_directory(staged)
    staged.rename(model.path(version))
    sync_directory(model.directory)
    return version


def _manifest(model: ModelRepository, staged: Path, description: Manifest, version: int) -> Manifest:
    manifest = Manifest()
    manifest.CopyFrom(description)
    manifest.schema = SCHEMA
    manifest.version = version
    manifest.parent_version = model.current().version
    manifest.created.GetCurrentTime()
    for path in sorted(staged.iterdir()):
        manifest.files.append(File(path=path.name, sha256=sha256_of(path), size_bytes=path.stat().st_size))
    return manifest
