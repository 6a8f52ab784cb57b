"""Proves the ONNX file, as it lies on the disk, equal to the PyTorch classifier that it was exported from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from pipeline.data.dataset import Dataset
from pipeline.data.split import load_split
from pipeline.errors import VerificationError
from pipeline.export import INPUT, OUTPUTS
from pipeline.proof.extremes import COLOURS, Images, extremes
from pipeline.proof.features import prove_features
from pipeline.proof.file import described, read_onnx
from pipeline.proof.providers import session_with_tf32, sessions
from pipeline.training.checkpoint import load_checkpoint

# Rounding alone was seen to cost 2e-6 (torch 2.14, onnxruntime 1.31, CPU); a single changed weight costs far more.
LOGITS_TOLERANCE = 2e-5
"""How far a logit may be off, relative to the largest one among the known answers, which hold the extremes."""
PROBABILITIES_TOLERANCE = 2e-5
"""How far a probability may be off."""

BATCH_SIZES = (1, 2, 3, 7, 64, 129, 1000)
REFERENCE_COUNT = 16  # onnx.reference is thorough and slow
KNOWN_ANSWERS = slice(0, 64)  # the extremes, and the first validation images


class Answers(NamedTuple):
    """What one implementation says: logits and probabilities, float32 (image, class)."""

    logits: NDArray[np.float32]
    probabilities: NDArray[np.float32]


Run = Callable[[Images], Answers]


class Distance(NamedTuple):
    """How far two implementations are apart at most: logits relative to the largest, probabilities absolute."""

    logits: float
    probabilities: float


class Parity(NamedTuple):
    """How far one implementation's answers are from PyTorch's, over all the batches in which it was asked."""

    who: str  # an execution provider that really ran the model, or onnx.reference
    image_count: int
    batch_sizes: tuple[int, ...]
    distance: Distance
    is_batch_invariant: bool  # whether an image's answer has the same bits in every batch


@dataclass(frozen=True)
class Verification:
    """What the proof found."""

    reference: Parity
    parities: tuple[Parity, ...]  # one for each provider
    image_count: int
    known_answers: Path
    known_answer_count: int
    opset: int
    ir_version: int
    tf32_distance: Distance | None = None
    """How far CUDA is off where it multiplies in TF32, as nobody here has it do; None where there is no CUDA."""
    maps_distance: float | None = None
    """How far a feature map is off at most, relative to the largest value of its layer; None where there are none."""

    @property
    def providers(self) -> tuple[str, ...]:
        """Those that really ran the model."""
        return tuple(parity.who for parity in self.parities)

    @property
    def distance(self) -> Distance:
        """The largest of all providers."""
        return Distance(*map(max, zip(*(parity.distance for parity in self.parities), strict=True)))

    @property
    def is_batch_invariant(self) -> bool:
        """Whether an image's answer has the same bits in every batch, on every provider."""
        return all(parity.is_batch_invariant for parity in self.parities)

    @property
    def detail(self) -> str:
        """The finding in one sentence."""
        maps = "" if self.maps_distance is None else f", feature maps within {self.maps_distance:.1e}"
        tf32 = "" if self.tf32_distance is None else f" (with TF32 {self.tf32_distance.logits:.1e})"
        return (
            f"{self.image_count} images on {', '.join(self.providers)} as PyTorch answers them: logits within "
            f"{self.distance.logits:.1e} of the largest one{tf32}, "
            f"probabilities within {self.distance.probabilities:.1e}, "
            f"{'the same bits' if self.is_batch_invariant else 'not the same bits'} in every batch{maps}"
        )


def verify(
    model: Path, checkpoint: Path, dataset: Dataset, *, known_answers: Path, features: Path | None = None
) -> Verification:
    """Compare the file `model` with the classifier in `checkpoint`, and write `known_answers`.

    The images are synthetic extremes and the whole validation split, in batches of several sizes, on every execution
    provider that is really there; onnx.reference gives a third opinion on a few of them. Where the network shows
    feature maps, the file `features` is compared on the images of the known answers. VerificationError where they
    differ.
    """
    graph = read_onnx(model)
    _check_signature(model, graph.graph)
    images = np.concatenate([extremes(graph), load_split(dataset, "validation", torch.device("cpu")).images.numpy()])
    expected = _ask_pytorch(checkpoint, images)
    parities = tuple(_prove(provider, _run(session), images, expected) for provider, session in sessions(model).items())
    _write_known_answers(known_answers, images, expected)
    return Verification(
        reference=_prove_reference(graph, images, expected),
        parities=parities,
        image_count=len(images),
        known_answers=known_answers,
        known_answer_count=len(images[KNOWN_ANSWERS]),
        opset=graph.opset_import[0].version,
        ir_version=graph.ir_version,
        tf32_distance=_look_at_tf32(model, images, expected),
        maps_distance=prove_features(features, checkpoint, images[KNOWN_ANSWERS]) if features else None,
    )


def _prove(provider: str, run: Run, images: Images, expected: Answers) -> Parity:
    batched = {size: _in_batches(run, images, size) for size in BATCH_SIZES}
    distances = [_compare(f"{provider}, batches of {size}", came, expected) for size, came in batched.items()]
    is_batch_invariant = len({came.logits.tobytes() for came in batched.values()}) == 1
    distance = Distance(*map(max, zip(*distances, strict=True)))
    return Parity(provider, len(images), BATCH_SIZES, distance, is_batch_invariant)


def _look_at_tf32(model: Path, images: Images, expected: Answers) -> Distance | None:
    session = session_with_tf32(model)
    return None if session is None else _distance(_in_batches(_run(session), images, max(BATCH_SIZES)), expected)


def _prove_reference(graph: onnx.ModelProto, images: Images, expected: Answers) -> Parity:
    few = images[:REFERENCE_COUNT]
    answers = _ask_reference(graph, few)
    distance = _compare("onnx.reference", answers, Answers(*(part[:REFERENCE_COUNT] for part in expected)))
    return Parity("onnx.reference", len(few), (len(few),), distance, is_batch_invariant=True)


def _check_signature(path: Path, graph: onnx.GraphProto) -> None:
    came = described(*graph.input, *graph.output)
    names = [name for name, _, _ in came]
    types = [dtype for _, dtype, _ in came]
    shapes = [shape for _, _, shape in came]
    is_expected = (
        names == [INPUT, *OUTPUTS]
        and types == ["UINT8", "FLOAT", "FLOAT"]
        and all(shape[0] == "batch" for shape in shapes)
        and (len(shapes[0]) == 3 or shapes[0][3:] == [COLOURS])
        and [len(shape) for shape in shapes[1:]] == [2, 2]
    )
    if not is_expected:
        raise VerificationError(
            f"{path}: signature is {came}; expected images uint8[batch, height, width] or "
            f"uint8[batch, height, width, {COLOURS}], logits and probabilities float32[batch, classes]"
        )


@torch.no_grad()
def _ask_pytorch(checkpoint: Path, images: Images) -> Answers:
    classifier = load_checkpoint(checkpoint, torch.device("cpu")).float()
    parts = [classifier(batch) for batch in torch.split(torch.from_numpy(images), max(BATCH_SIZES))]
    logits, probabilities = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
    return Answers(logits, probabilities)


def _ask_reference(model: onnx.ModelProto, images: Images) -> Answers:
    return Answers(*ReferenceEvaluator(model).run(list(OUTPUTS), {INPUT: images}))


def _run(session: onnxruntime.InferenceSession) -> Run:
    return lambda images: Answers(*session.run(list(OUTPUTS), {INPUT: images}))


def _in_batches(run: Run, images: Images, size: int) -> Answers:
    parts = [run(images[start : start + size]) for start in range(0, len(images), size)]
    return Answers(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _compare(who: str, came: Answers, expected: Answers) -> Distance:
    """Measure how far `came` is from PyTorch's answers; raises VerificationError when too far."""
    distance = _distance(came, expected)
    # Written so that a NaN fails.
    if not (distance.logits <= LOGITS_TOLERANCE and distance.probabilities <= PROBABILITIES_TOLERANCE):
        raise VerificationError(
            f"{who}: logits are {distance.logits:.1e} (relative) and probabilities {distance.probabilities:.1e} away "
            f"from PyTorch's; expected at most {LOGITS_TOLERANCE:.0e} and {PROBABILITIES_TOLERANCE:.0e}: the file is "
            "not the network that was trained"
        )
    return distance


def _distance(came: Answers, expected: Answers) -> Distance:
    scale = float(np.abs(expected.logits[KNOWN_ANSWERS]).max())
    if scale == 0:
        raise VerificationError(
            "the network answers every image with logits of 0: it died in training; try a lower learning_rate"
        )
    return Distance(
        logits=float(np.abs(came.logits - expected.logits).max()) / scale,
        probabilities=float(np.abs(came.probabilities - expected.probabilities).max()),
    )


def _write_known_answers(path: Path, images: Images, expected: Answers) -> None:
    """Keep the extremes and the first validation images, with PyTorch's answers, for whoever loads the model later."""
    kept = KNOWN_ANSWERS
    np.savez(path, images=images[kept], logits=expected.logits[kept], probabilities=expected.probabilities[kept])
