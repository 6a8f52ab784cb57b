"""Candidates for the gates: trained for a moment on a few images, and spoilt on purpose."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

from pipeline.check import check
from pipeline.config import Preset
from pipeline.data.dataset import Dataset
from pipeline.evaluate import Evaluation, evaluate
from pipeline.export import export
from pipeline.publish import Publication, publish
from pipeline.train import train
from pipeline.verify import verify
from pipeline.versions.manifest import conclude, describe
from protos.artifact.v1.manifest_pb2 import Manifest

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Candidate:
    """A folder with model.onnx, features.onnx and known_answers.npz, and what the run knows of it."""

    folder: Path
    description: Manifest
    validation: Evaluation
    dataset: Dataset

    def publish(self, repository: Path) -> Publication:
        """Make it a version, whatever the gates would say."""
        return publish(repository, self.folder, conclude(self.description, (), self.validation))

    def spoilt(self, folder: Path, *, label: int | None = None, by: float) -> "Candidate":
        """The same with other weights: noise on the readout, or a lower logit for one label."""
        shutil.copytree(self.folder, folder)
        path = folder / "model.onnx"
        graph = onnx.load(path)
        readout = next(tensor for tensor in graph.graph.initializer if tensor.name.endswith("readout"))
        weights: NDArray[np.float32] = numpy_helper.to_array(readout).copy()
        if label is None:
            weights += np.random.default_rng(0).normal(0, by, weights.shape).astype(np.float32)
        else:
            weights[:, label] -= by
        readout.CopyFrom(numpy_helper.from_array(weights, readout.name))
        path.write_bytes(graph.SerializeToString())
        return replace(self, folder=folder)


def make_candidate(dataset: Dataset, preset: Preset, folder: Path) -> Candidate:
    """Train, evaluate, export, verify and describe: all that a run does before it asks the gates."""
    folder.mkdir(parents=True)
    checkpoint = folder / "checkpoint.pt"
    summary = check(dataset, classes=preset.network.classes, size=preset.network.sizes[0])
    training = train(dataset, summary, preset, device=CPU, checkpoint=checkpoint, on_progress=lambda _: None)
    validation = evaluate(checkpoint, dataset, split="validation", device=CPU)
    features, known_answers = folder / "features.onnx", folder / "known_answers.npz"
    model = export(checkpoint, folder / "model.onnx", size=summary.height, features=features)
    verification = verify(model, checkpoint, dataset, known_answers=known_answers, features=features)
    description = describe("digits", preset, dataset, summary, training, validation, verification)
    return Candidate(folder, description, validation, dataset)
