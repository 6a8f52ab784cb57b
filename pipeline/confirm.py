"""Asks a server whether it answers with what was published."""

import time
from pathlib import Path

from pipeline.errors import ConfirmError, NoAnswerError
from pipeline.server.stub import Stub
from pipeline.versions.repository import ModelRepository
from protos.artifact.layout import MODEL, sha256_of

WITHIN_S = 30.0  # servers look four times a second; loading and warming up take a second or two
LOOK_S = 0.25


def confirm(repository: Path, model_name: str, address: str, *, within_s: float = WITHIN_S) -> str:
    """Wait until the server at `address`, HOST:PORT, answers with the version that CURRENT names; say so.

    Raises ConfirmError when that takes longer, and at once when the server has refused the version.
    """
    model = ModelRepository(repository / model_name)
    current = model.current()
    digest = sha256_of(model.path(current.version) / MODEL)
    began = time.monotonic()
    while True:
        remaining_s = began + within_s - time.monotonic()
        try:
            with Stub(address) as stub:
                told = stub.get_model(remaining_s)
        except NoAnswerError as error:
            said = str(error)
        else:
            if told.model_sha256 == digest and told.model_version == current.version:
                return f"{address} answers with version {told.model_version} on {told.provider}"
            said = f"{address} answers with version {told.model_version} of {told.model_name}"
            if told.refusal.model_version == current.version and told.refusal.generation == current.generation:
                raise _error(current.version, f"{address} refuses it: {told.refusal.reason}")
        if remaining_s <= LOOK_S:
            raise _error(current.version, f"after {within_s:g} s {said}; does it serve {model.directory}?")
        time.sleep(LOOK_S)


def _error(version: int, reason: str) -> ConfirmError:
    return ConfirmError(f"version {version} is published and current, but {reason}")
