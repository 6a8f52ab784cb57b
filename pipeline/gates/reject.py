"""Keeps in the history that a candidate was refused; nothing else of it is kept."""

from collections.abc import Iterable
from pathlib import Path

from pipeline.gates.verdict import Verdict, first_refusal
from pipeline.versions.repository import ModelRepository
from protos.artifact.v1.manifest_pb2 import Manifest

OF_THE_MACHINE = ("latency",)
"""Gates whose verdict on the same candidate may change, as with a busy machine."""


def reject(repository: Path, description: Manifest, verdicts: Iterable[Verdict]) -> None:
    """Write why the candidate that `description` describes was refused; raises PublishError.

    The fingerprint, which keeps the same candidate from being trained again, is kept where the candidate is the reason.
    """
    refusals = [verdict for verdict in verdicts if not verdict.passed]
    is_lasting = any(refusal.gate not in OF_THE_MACHINE for refusal in refusals)
    model = ModelRepository(repository / description.model_name)
    with model.writing():
        model.reject(str(first_refusal(refusals)), description.fingerprint if is_lasting else "")
