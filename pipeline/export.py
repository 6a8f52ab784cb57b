"""Writes a trained classifier as one ONNX file, the same bytes for the same weights."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx
import torch

from pipeline.training.checkpoint import load_checkpoint

OPSET = 20  # IR 10: what onnxruntime, Triton and others of the last two years load
INPUT = "images"
OUTPUTS = ("logits", "probabilities")
EXAMPLE_COUNT = 2  # any batch but 1, which torch.export would take for a constant


def export(checkpoint: Path, destination: Path, *, size: int) -> Path:
    """Export the classifier in `checkpoint` to the file `destination` and return it.

    The graph takes images, uint8 (batch, size, size), or (batch, size, size, 3) where the classifier takes colours, and
    gives logits and probabilities, float32 (batch, classes).
    Normalisation, temperature and softmax are inside, so that nobody outside writes them again.
    """
    classifier = load_checkpoint(checkpoint, torch.device("cpu")).float()
    colours = () if classifier.channels == 1 else (classifier.channels,)
    example = torch.zeros(EXAMPLE_COUNT, size, size, *colours, dtype=torch.uint8)
    program = torch.onnx.export(
        classifier,
        (example,),
        dynamo=True,
        opset_version=OPSET,
        input_names=[INPUT],
        output_names=list(OUTPUTS),
        dynamic_shapes={INPUT: {0: torch.export.Dim("batch", min=1)}},
        external_data=False,
        verbose=False,
    )
    if program is None:
        raise AssertionError("the dynamo exporter always returns a program")
    model = program.model_proto
    _strip(model.graph)
    destination.write_bytes(model.SerializeToString(deterministic=True))
    return destination


def _strip(graph: onnx.GraphProto) -> None:
    """Take out what the exporter notes for debugging: absolute source paths and stack traces, new in every checkout."""
    elements: Iterable[Any] = (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for element in elements:
        element.ClearField("metadata_props")
        element.ClearField("doc_string")
