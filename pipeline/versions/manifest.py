"""Describes a candidate in the words of the contract (artifact/v1)."""

from collections.abc import Sequence
from dataclasses import asdict

from google.protobuf import json_format

from pipeline.check import DataSummary
from pipeline.config import Preset
from pipeline.data.dataset import Dataset
from pipeline.evaluate import Evaluation
from pipeline.export import INPUT, OUTPUTS
from pipeline.gates.verdict import Verdict, first_refusal
from pipeline.train import TrainingResult
from pipeline.verify import LOGITS_TOLERANCE, PROBABILITIES_TOLERANCE, Verification
from pipeline.versions.provenance import code_revision, package_versions
from protos.artifact.v1 import manifest_pb2
from protos.artifact.v1.manifest_pb2 import Manifest, Signature, Tensor

BATCH = -1


def describe(
    model_name: str,
    preset: Preset,
    dataset: Dataset,
    summary: DataSummary,
    training: TrainingResult,
    validation: Evaluation,
    verification: Verification,
    *,
    fingerprint: str = "",
    sources: str = "",
    temperature: float = 1.0,
) -> Manifest:
    """All that the run knows of its candidate before the gates decide."""
    manifest = Manifest(
        model_name=model_name,
        fingerprint=fingerprint,
        signature=_signature(summary, preset.network.classes),
        labels=dataset.labels,
        opset=verification.opset,
        ir_version=verification.ir_version,
        known_answers=manifest_pb2.KnownAnswers(
            image_count=verification.known_answer_count,
            logits_tolerance=LOGITS_TOLERANCE,
            probabilities_tolerance=PROBABILITIES_TOLERANCE,
        ),
        validation=_evaluation(validation),
        data=_data(dataset, summary),
        seed=training.seed,
        device=training.device,
        code_revision=code_revision(),
        sources_sha256=sources,
        temperature=temperature,
        packages=package_versions(),
    )
    json_format.ParseDict(preset.model_dump(mode="json"), manifest.config)
    return manifest


def conclude(description: Manifest, verdicts: Sequence[Verdict], test: Evaluation) -> Manifest:
    """What is published: what the gates said and the test images showed; publishing adds version, files and time."""
    manifest = Manifest()
    manifest.CopyFrom(description)
    for verdict in verdicts:
        manifest.verdicts.add(**asdict(verdict))
    manifest.forced = first_refusal(verdicts) is not None
    manifest.evaluation.CopyFrom(_evaluation(test))
    return manifest


def recorded_test(manifest: Manifest) -> Evaluation:
    """What the test images showed when a version was published."""
    kept = manifest.evaluation
    classes = len(manifest.labels)
    rows = (kept.confusion[row * classes : (row + 1) * classes] for row in range(classes))
    return Evaluation(
        train_loss=kept.train_loss,
        loss=kept.test_loss,
        accuracy=kept.accuracy,
        error_rate=kept.error_rate,
        class_accuracy=tuple(kept.class_accuracies),
        confusion=tuple(tuple(row) for row in rows),
        calibration_error=kept.calibration_error,
        image_count=kept.image_count,
        split="test",
    )


def _signature(summary: DataSummary, classes: int) -> Signature:
    return Signature(
        inputs=[Tensor(name=INPUT, dtype="uint8", shape=[BATCH, *summary.image_shape])],
        outputs=[Tensor(name=name, dtype="float32", shape=[BATCH, classes]) for name in OUTPUTS],
    )


def _evaluation(evaluation: Evaluation) -> manifest_pb2.Evaluation:
    return manifest_pb2.Evaluation(
        train_loss=evaluation.train_loss,
        test_loss=evaluation.loss,
        error_rate=evaluation.error_rate,
        accuracy=evaluation.accuracy,
        image_count=evaluation.image_count,
        class_accuracies=evaluation.class_accuracy,
        confusion=[count for row in evaluation.confusion for count in row],
        calibration_error=evaluation.calibration_error,
    )


def _data(dataset: Dataset, summary: DataSummary) -> manifest_pb2.Data:
    return manifest_pb2.Data(
        name=dataset.name,
        source=dataset.source,
        payload_sha256=dataset.sha256,
        train_count=summary.train_count,
        validation_count=summary.validation_count,
        test_count=summary.test_count,
        mean=summary.mean,
        std=summary.std,
        means=summary.means,
        stds=summary.stds,
    )
