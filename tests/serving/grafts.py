"""Models changed on purpose, with onnx."""

from typing import Any


def rename(graph: Any, old: str, new: str) -> None:
    """Give a value of an onnx GraphProto another name, wherever nodes make or take it."""
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]
