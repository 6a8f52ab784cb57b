"""The version that a candidate is compared with: the current one of the repository, if a comparison would be fair."""

from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.data.dataset import Dataset
from pipeline.errors import ChampionError, PublishError
from pipeline.versions.repository import ModelRepository
from protos.artifact.layout import MANIFEST, MODEL, sha256_of
from protos.artifact.v1.manifest_pb2 import Manifest


@dataclass(frozen=True)
class Champion:
    """The version to beat."""

    version: int
    model: Path
    """Its ONNX file."""
    dataset: Dataset
    """The candidate's data set, with those validation images alone that the champion was not trained on either."""


def find_champion(repository: Path, description: Manifest, dataset: Dataset) -> Champion:
    """The current version of the model that `description` names; raises ChampionError where there is no fair one."""
    model = ModelRepository(repository / description.model_name)
    current = model.current()
    version = current.version
    if not version:
        raise ChampionError("no version is current yet")
    try:
        manifest = model.manifest(version)
        if not model.is_whole(version) or sha256_of(model.path(version) / MANIFEST) != current.sha256:
            raise ChampionError(f"version {version} is not what was published: a file is missing or was changed")
    except (OSError, PublishError) as error:
        raise ChampionError(f"version {version} cannot be loaded: {error}") from error
    _demand_same_task(manifest, description)
    return Champion(version, model.path(version) / MODEL, _unseen(manifest, dataset))


def _demand_same_task(manifest: Manifest, description: Manifest) -> None:
    """Refuse to compare what answers another question."""
    for what, theirs, ours in (
        ("labels", list(manifest.labels), list(description.labels)),
        ("image size", _size(manifest), _size(description)),
    ):
        if theirs != ours:
            raise ChampionError(f"version {manifest.version} has another task: {what} {theirs}, the candidate's {ours}")


def _size(manifest: Manifest) -> list[int]:
    return [size for tensor in manifest.signature.inputs for size in tensor.shape[1:]]


def _unseen(manifest: Manifest, dataset: Dataset) -> Dataset:
    """Leave the images that both validate on: images validate by their hash, so the smaller share is in the larger."""
    data = manifest.config.fields["data"].struct_value if "data" in manifest.config.fields else None
    fraction = data.fields["validation_fraction"].number_value if data else 0.0
    if not fraction:
        raise ChampionError(f"version {manifest.version} was trained on every image that could compare them")
    return replace(dataset, validation_fraction=min(fraction, dataset.validation_fraction))
