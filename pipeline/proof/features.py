"""Proves features.onnx equal to the feature maps of the PyTorch classifier that it was exported from."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from pipeline.errors import VerificationError
from pipeline.export import INPUT
from pipeline.proof.extremes import Images
from pipeline.proof.file import described, read_onnx
from pipeline.proof.providers import sessions
from pipeline.training.checkpoint import load_checkpoint

MAPS_TOLERANCE = 2e-5
"""How far a value may be off, relative to the largest one of its layer; rounding alone cost 3e-7 as in verify.py."""

Maps = Mapping[str, NDArray[np.float32]]
"""The maps behind each layer, by its name and in order: float32 (image, feature, row, column)."""


def prove_features(path: Path, checkpoint: Path, images: Images) -> float | None:
    """Compare the file with the classifier in `checkpoint`, on every execution provider that is really there.

    The images, uint8 (image, row, column[, 3]), are asked about together and one by one, as serving asks. Returns how
    far a value is off at most, relative to the largest one of its layer; None where the network shows no maps.
    Raises VerificationError.
    """
    expected = _ask_pytorch(checkpoint, images)
    if not expected:
        return None
    _check_signature(path, read_onnx(path).graph, images, expected)
    return max(
        _compare(f"{path}: {provider}, {how}", came, expected)
        for provider, session in sessions(path).items()
        for how, came in (("together", _ask(session, images)), ("one by one", _ask_one_by_one(session, images)))
    )


@torch.no_grad()
def _ask_pytorch(checkpoint: Path, images: Images) -> Maps:
    classifier = load_checkpoint(checkpoint, torch.device("cpu")).float()
    return {name: maps.numpy() for name, maps in classifier.feature_maps(torch.from_numpy(images))}


def _check_signature(path: Path, graph: onnx.GraphProto, images: Images, expected: Maps) -> None:
    """Demand the images of the model, and an output for each layer, in order."""
    came = described(*graph.input, *graph.output)
    outputs = [(name, "FLOAT", ["batch", *maps.shape[1:]]) for name, maps in expected.items()]
    if came != (wanted := [(INPUT, "UINT8", ["batch", *images.shape[1:]]), *outputs]):
        raise VerificationError(f"{path}: signature is {came}; expected {wanted}")


def _ask(session: onnxruntime.InferenceSession, images: Images) -> Maps:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {INPUT: images}), strict=True))


def _ask_one_by_one(session: onnxruntime.InferenceSession, images: Images) -> Maps:
    each = [_ask(session, image[np.newaxis]) for image in images]
    return {name: np.concatenate([maps[name] for maps in each]) for name in each[0]}


def _compare(who: str, came: Maps, expected: Maps) -> float:
    """The distance of the layer that is furthest off; raises VerificationError where it is too far."""
    distances = {name: _distance(came[name], maps) for name, maps in expected.items()}
    for name, distance in distances.items():
        if not distance <= MAPS_TOLERANCE:  # also true of NaN
            raise VerificationError(
                f"{who}: the feature maps {name!r} are {distance:.1e} (relative) away from PyTorch's; expected at most "
                f"{MAPS_TOLERANCE:.0e}: they are not those of the network that was trained"
            )
    return max(distances.values())


def _distance(came: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    scale = float(np.abs(expected).max()) or 1.0  # a layer that died is 0 everywhere, and must be so here too
    return float(np.abs(came - expected).max()) / scale
