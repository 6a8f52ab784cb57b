"""Changes which version is served, by a rewrite of CURRENT: nothing is trained, copied or deleted."""

from pipeline.errors import PublishError
from pipeline.versions.repository import ModelRepository
from protos.artifact.layout import MANIFEST, sha256_of
from protos.artifact.v1.manifest_pb2 import Current


def promote(model: ModelRepository, version: int) -> Current:
    """Make `version` current; raises PublishError when it is not there, or not whole."""
    model.demand_versions()
    with model.writing():
        return _point_at(model, version, "promote")


def rollback(model: ModelRepository) -> Current:
    """Make the version before the current one current again; raises PublishError when there is none.

    "Before" is what CURRENT calls previous: a second rollback goes forward again, so that one that was a mistake is
    undone by the same command.
    """
    model.demand_versions()
    with model.writing():
        current = model.current()
        if not current.previous:
            raise PublishError(
                f"{model.directory}: no version was current before version {current.version or '(none)'}; "
                f"promote one of those that are whole: {_whole(model)}"
            )
        return _point_at(model, current.previous, "rollback")


def _point_at(model: ModelRepository, version: int, event: str) -> Current:
    if version not in model.versions():
        known = ", ".join(map(str, model.versions()))
        raise PublishError(f"{model.directory}: has no version {version}; expected one of {known}")
    if not model.is_whole(version):
        raise PublishError(
            f"{model.path(version)}: is not what was published: a file is missing or was changed; "
            f"whole are: {_whole(model)}"
        )
    current = model.current()
    if current.version == version and current.sha256 == sha256_of(model.path(version) / MANIFEST):
        return current
    return model.point_at(version, event)


def _whole(model: ModelRepository) -> str:
    return ", ".join(map(str, model.whole_versions())) or "none"
