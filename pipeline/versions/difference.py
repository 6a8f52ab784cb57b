"""What two versions differ in: config, data, quality and code, value by value."""

from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format

from pipeline.gates.verdict import ruling
from pipeline.pages.tables import flatten
from protos.artifact.v1.manifest_pb2 import Evaluation, Manifest


@dataclass(frozen=True)
class Difference:
    """A value that is not the same; None on the side where there is none."""

    name: str
    """Dotted, such as "config.training.seed"."""
    before: Any
    after: Any


def differences(before: Manifest, after: Manifest) -> list[Difference]:
    """Only what differs, by name; number, time, files and the gates' sentences always do, and are left out."""
    first, second = _values(before), _values(after)
    names = sorted(first.keys() | second.keys())
    found = (Difference(name, first.get(name), second.get(name)) for name in names)
    return [difference for difference in found if difference.before != difference.after]


def _values(manifest: Manifest) -> dict[str, Any]:
    """Every value that a person may want to compare, by its dotted name."""
    data = json_format.MessageToDict(manifest.data, preserving_proto_field_name=True)
    nested = {
        "code": {
            "revision": manifest.code_revision,
            "sources_sha256": manifest.sources_sha256 or None,
            "device": manifest.device,
            "packages": dict(manifest.packages),
        },
        "config": json_format.MessageToDict(manifest.config),
        "data": {**data, "labels": list(manifest.labels)},
        "test": _quality(manifest.evaluation, manifest),
        "validation": _quality(manifest.validation, manifest),
        "gates": {verdict.gate: ruling(verdict) for verdict in manifest.verdicts},
        "forced": manifest.forced,
        "temperature": manifest.temperature or 1.0,
    }
    return dict(flatten(nested))


def _quality(evaluation: Evaluation, manifest: Manifest) -> dict[str, Any]:
    """Without the confusion matrix, whose counts the classes sum up."""
    numbers = json_format.MessageToDict(evaluation, preserving_proto_field_name=True)
    numbers.pop("confusion", None)
    numbers["loss"] = numbers.pop("test_loss", None)  # of the split's images, whichever it is
    shares = numbers.pop("class_accuracies", [])
    return {**numbers, "recall": dict(zip(manifest.labels, shares, strict=False))}
