"""Publishes a candidate: stage, rename to a new number, point CURRENT at it.

A crash at any point leaves the old version live and no half version visible; the next run finishes or clears the rest.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.pages.page import INDEX
from pipeline.versions.card import card
from pipeline.versions.durable import make_directory, sync_directory, write_durably
from pipeline.versions.history import to_json
from pipeline.versions.repository import CARD, REPORT, STAGING, ModelRepository
from protos.artifact.layout import FEATURES, KNOWN_ANSWERS, MANIFEST, MODEL, SCHEMA, sha256_of
from protos.artifact.v1.manifest_pb2 import File, Manifest

GRAPHS = (MODEL, FEATURES)


@dataclass(frozen=True)
class Publication:
    """What became of a candidate."""

    version: int
    path: Path
    is_new: bool
    """False where a version with the same bytes was there already."""
    current_version: int
    """What CURRENT names now: another version where this one had been published before and rolled back since."""

    @property
    def report(self) -> Path:
        """The page that a person reads; a version of an earlier program has none."""
        return self.path / REPORT / INDEX


def publish(repository: Path, candidate: Path, description: Manifest) -> Publication:
    """Publish the files in `candidate` as the next version of the model that `description` names.

    Published are the model, its known answers, its feature maps and the report where there are any, and a model card,
    which is written here. `description` is a manifest without what only publishing knows: version, parent, files, time.
    The same model with the same feature maps and labels is published once; CURRENT then stays as it is, so that a
    scheduled run never undoes a rollback, except that it is written anew where it cannot be read.
    Raises PublishError.
    """
    model = ModelRepository(repository / description.model_name)
    with model.writing():
        version = find_same(model, candidate, description)
        is_new = version is None
        if version is None:
            version = _create_version(model, candidate, description)
        if not (_was_announced(model, version) and model.current().version):
            model.point_at(version, "publish")
        if not is_new and description.fingerprint:
            model.note_repeat(version, description.fingerprint)
        return Publication(version, model.path(version), is_new, model.current().version)


def find_same(model: ModelRepository, candidate: Path, description: Manifest) -> int | None:
    """The newest version with this model, these feature maps and these labels whose bytes are still whole."""
    graphs = {name: sha256_of(candidate / name) for name in GRAPHS if (candidate / name).is_file()}
    for version in reversed(model.versions()):
        manifest = model.readable_manifest(version)
        if manifest is None:
            continue
        published = {file.path: file.sha256 for file in manifest.files if file.path in GRAPHS}
        is_same = published == graphs and manifest.labels == description.labels
        if is_same and model.is_servable(version):
            return version
    return None


def _was_announced(model: ModelRepository, version: int) -> bool:
    """Whether CURRENT ever named the version; if not, its writer was killed just before."""
    return any(entry.version == version for entry in model.history.entries())


def _create_version(model: ModelRepository, candidate: Path, description: Manifest) -> int:
    version = model.next_version()
    staged = model.directory / STAGING / str(version)
    make_directory(staged)
    for path in _published_files(candidate):
        copy = staged / path.relative_to(candidate)
        make_directory(copy.parent)
        write_durably(copy, path.read_bytes())
    manifest = _manifest(model, description, version)
    write_durably(staged / CARD, card(manifest).encode())
    manifest.files.extend(_files(staged))
    write_durably(staged / MANIFEST, to_json(manifest))
    for directory in (*(path for path in staged.iterdir() if path.is_dir()), staged):
        sync_directory(directory)
    staged.rename(model.path(version))
    sync_directory(model.directory)
    return version


def _published_files(candidate: Path) -> list[Path]:
    """What goes into the version directory; a candidate has more, such as the checkpoint."""
    features = [candidate / FEATURES] if (candidate / FEATURES).is_file() else []
    return [candidate / MODEL, *features, candidate / KNOWN_ANSWERS, *sorted((candidate / REPORT).glob("*"))]


def _manifest(model: ModelRepository, description: Manifest, version: int) -> Manifest:
    manifest = Manifest()
    manifest.CopyFrom(description)
    manifest.schema = SCHEMA
    manifest.version = version
    manifest.parent_version = model.current().version
    manifest.created.GetCurrentTime()
    return manifest


def _files(staged: Path) -> Iterator[File]:
    """Every file below `staged`, with its hash."""
    for path in sorted(path for path in staged.rglob("*") if path.is_file()):
        name = path.relative_to(staged).as_posix()
        yield File(path=name, sha256=sha256_of(path), size_bytes=path.stat().st_size)
