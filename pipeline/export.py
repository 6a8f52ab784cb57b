"""Writes a trained classifier as one ONNX file, and what its layers show as another: same weights, same bytes."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import onnx
import torch
from onnx.utils import Extractor
from torch import Tensor, nn

from models.classifier import ImageClassifier
from pipeline.training.checkpoint import load_checkpoint

OPSET = 20  # IR 10: what onnxruntime, Triton and others of the last two years load
INPUT = "images"
OUTPUTS = ("logits", "probabilities")
EXAMPLE_COUNT = 2  # any batch but 1, which torch.export would take for a constant


def export(checkpoint: Path, destination: Path, *, size: int, features: Path | None = None) -> Path:
    """Export the classifier in `checkpoint` to the file `destination` and return it.

    The graph takes images, uint8 (batch, size, size), or (batch, size, size, 3) where the classifier takes colours, and
    gives logits and probabilities, float32 (batch, classes).
    Normalisation, temperature and softmax are inside, so that nobody outside writes them again.

    The file `features` gets a graph that takes the same images and gives, for each layer under its name, the feature
    maps behind it, float32 (batch, feature, row, column). No such file comes of a network that shows none.
    """
    classifier = load_checkpoint(checkpoint, torch.device("cpu")).float()
    colours = () if classifier.channels == 1 else (classifier.channels,)
    example = torch.zeros(EXAMPLE_COUNT, size, size, *colours, dtype=torch.uint8)
    layers = [name for name, _ in classifier.feature_maps(example)]
    # One program has all of it, since the exporter takes a second for each; two graphs are cut out of it.
    graphs = Extractor(_program(_Whole(classifier), example, [*OUTPUTS, *layers]))
    if features and layers:
        _write(graphs, layers, features)
    return _write(graphs, OUTPUTS, destination)


@final
class _Whole(nn.Module):
    """A classifier that gives its answer and its feature maps."""

    def __init__(self, classifier: ImageClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Map uint8 (batch, row, column[, 3]) to the answer and the maps (batch, feature, row, column)."""
        return *self.classifier(images), *(maps for _, maps in self.classifier.feature_maps(images))


def _write(graphs: Extractor, outputs: Sequence[str], destination: Path) -> Path:
    model = graphs.extract_model([INPUT], list(outputs))
    destination.write_bytes(model.SerializeToString(deterministic=True))
    return destination


def _program(module: nn.Module, example: Tensor, outputs: Sequence[str]) -> onnx.ModelProto:
    program = torch.onnx.export(
        module.eval(),
        (example,),
        dynamo=True,
        opset_version=OPSET,
        input_names=[INPUT],
        output_names=list(outputs),
        dynamic_shapes={INPUT: {0: torch.export.Dim("batch", min=1)}},
        external_data=False,
        verbose=False,
    )
    if program is None:
        raise AssertionError("the dynamo exporter always returns a program")
    model = program.model_proto
    _strip(model.graph)
    _pool_by_convolution(model.graph)
    return model


def _pool_by_convolution(graph: onnx.GraphProto) -> None:
    """Let convolutions do the average pooling, a channel each: the same answers, in half the time on a CPU.

    onnxruntime lays channels out in blocks for its convolutions. Its AveragePool wants them back where a block is not
    full, as in small networks, and takes longer than the convolutions themselves; a convolution stays in the blocks.
    """
    values = (*graph.value_info, *graph.output)
    shapes = {value.name: value.type.tensor_type.shape.dim for value in values}
    for place, node in enumerate(graph.node):
        told = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type != "AveragePool" or not _is_plain(told):
            continue
        count, kernel = shapes[node.input[0]][1].dim_value, told["kernel_shape"]
        weight = np.full((count, 1, *kernel), 1 / np.prod(kernel), np.float32)
        graph.initializer.append(onnx.numpy_helper.from_array(weight, f"{node.output[0]}.weight"))
        pooling = onnx.helper.make_node(
            "Conv",
            [node.input[0], f"{node.output[0]}.weight"],
            node.output,
            node.name,
            group=count,
            kernel_shape=kernel,
            strides=told["strides"],
        )
        graph.node[place].CopyFrom(pooling)


def _is_plain(pooling: Mapping[str, Any]) -> bool:
    """Whether every window is whole: no padding, no rounding up, no gaps."""
    odd = (any(pooling.get("pads", ())), pooling.get("ceil_mode"), pooling.get("auto_pad", b"NOTSET") != b"NOTSET")
    return "strides" in pooling and not any(odd) and set(pooling.get("dilations", [1])) == {1}


def _strip(graph: onnx.GraphProto) -> None:
    """Take out what the exporter notes for debugging: absolute source paths and stack traces, new in every checkout."""
    elements: Iterable[Any] = (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer)
    for element in elements:
        element.ClearField("metadata_props")
        element.ClearField("doc_string")
