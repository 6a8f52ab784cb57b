"""A session: one model version loaded into onnxruntime on one execution provider."""

import base64
import logging
import math
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import partial
from io import StringIO
from typing import Literal, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from protos.artifact.v1.manifest_pb2 import Manifest
from protos.digits.v1.digits_pb2 import ClassifyResponse
from serving.batching.pace import Pace
from serving.errors import ProviderError, VersionRefusedError
from serving.feature_maps import Features
from serving.pixels import Images
from serving.versions.manifest import FEATURES, MODEL, KnownAnswers, Version

log = logging.getLogger(__name__)

Provider = Literal["auto", "cuda", "cpu"]
CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"

PROVIDER_OPTIONS = {
    CPU: {},
    # TF32 keeps 10 bits of a number: the known answers would not come out. HEURISTIC, since batches have many sizes
    # and EXHAUSTIVE, the default, searches anew for each.
    CUDA: {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"},
}

TIMED_RUNS = 3

# y = Relu(x), x: float32[1], opset 20: the smallest model that shows whether a provider works.
_PROBE = base64.b64decode("CAo6MwoMCgF4EgF5IgRSZWx1EgFnWg8KAXgSCgoICAESBAoCCAFiDwoBeRIKCggIARIECgIIAUIECgAQFA==")

# Errors reach us as exceptions; what onnxruntime prints beside them to stderr has no place in our log.
onnxruntime.set_default_logger_severity(4)


class Answers(NamedTuple):
    """What the model gives for some images."""

    logits: NDArray[np.float32]
    """float32 (image, class)"""
    probabilities: NDArray[np.float32]
    """float32 (image, class), [0, 1]"""


@dataclass(slots=True)
class Predictions:
    """What callers are told of some images, in the bytes that a message holds: no number becomes an object."""

    labels: bytes
    """uint16 (image,): the index of the most probable class."""
    probabilities: bytes
    """float32 (image, class), [0, 1]"""

    def __getitem__(self, images: slice) -> "Predictions":
        row = 2 * len(self.probabilities) // len(self.labels)
        start, stop = images.start, images.stop
        return Predictions(self.labels[2 * start : 2 * stop], self.probabilities[start * row : stop * row])

    @staticmethod
    def join(parts: "Sequence[Predictions]") -> "Predictions":
        """One after the other."""
        return Predictions(b"".join(part.labels for part in parts), b"".join(part.probabilities for part in parts))


class Session:
    """A loaded version. `run` may be called from several threads at once.

    `provider` is an execution provider, as `execution_provider` gives it; every node runs on it. Raises
    VersionRefusedError when onnxruntime cannot load the model so, or when its signature is not the manifest's.
    """

    def __init__(self, version: Version, *, provider: str, threads: int) -> None:
        self.manifest: Manifest = version.manifest
        self.image_shape = version.image_shape
        self.image_bytes = math.prod(version.image_shape)
        self._runtime = _create(MODEL, version.model, provider, threads)
        self.features = Features(version, partial(_create, FEATURES, provider=provider, threads=threads))
        """What its layers make of an image."""
        self.provider = provider
        self.answer_constant = ClassifyResponse(
            model_name=self.manifest.model_name, model_version=self.manifest.version, provider=provider
        ).SerializeToString()
        """What every answer says besides, as it stands in a message."""
        self.pace = Pace()
        """How long runs take; knows nothing before `warm_up`."""
        self._check_signature()

    def run(self, images: Images) -> Answers:
        """Classify images, uint8 (image, *image_shape)."""
        logits, probabilities = self._runtime.run(["logits", "probabilities"], {"images": images})
        return Answers(logits, probabilities)

    def check_known_answers(self, known: KnownAnswers) -> None:
        """Prove that this session still answers as PyTorch did; raises VersionRefusedError when not."""
        answers = self.run(known.images)
        bounds = self.manifest.known_answers
        scale = float(np.abs(known.logits).max())
        for name, came, expected, tolerance in (
            ("logits", answers.logits, known.logits, bounds.logits_tolerance * scale),
            ("probabilities", answers.probabilities, known.probabilities, bounds.probabilities_tolerance),
        ):
            distance = float(np.abs(came - expected).max())
            if not distance <= tolerance:  # also true of NaN
                raise VersionRefusedError(
                    f"known answers: {name} are {distance:.3g} away from PyTorch's on {self.provider}, "
                    f"at most {tolerance:.3g} is allowed"
                )

    def predict(self, images: Images) -> tuple[Predictions, float]:
        """What `run` gives, for callers, and the seconds that the model took."""
        began = time.perf_counter()
        probabilities = self.run(images).probabilities
        compute_s = time.perf_counter() - began
        return Predictions(probabilities.argmax(axis=1).astype("<u2").tobytes(), probabilities.tobytes()), compute_s

    def warm_up(self, max_image_count: int) -> None:
        """Run every power of two up to `max_image_count`, so that no caller pays for a first time, and time it.

        The best of some runs counts: what else the machine does is not the model's time.
        """
        run_s = {}
        image_count = 1
        while image_count <= max_image_count:
            images = np.zeros((image_count, *self.image_shape), np.uint8)
            self.run(images)
            run_s[image_count] = min(self.predict(images)[1] for _ in range(TIMED_RUNS))
            image_count *= 2
        self.pace = Pace(run_s)

    def _check_signature(self) -> None:
        signature = self.manifest.signature
        for came, expected in (
            (self._runtime.get_inputs(), signature.inputs),
            (self._runtime.get_outputs(), signature.outputs),
        ):
            described = [(tensor.name, tensor.type, list(tensor.shape[1:])) for tensor in came]
            wanted = [(tensor.name, _ONNX_TYPES[tensor.dtype], list(tensor.shape[1:])) for tensor in expected]
            if described != wanted:
                raise VersionRefusedError(f"model.onnx: signature is {described}, the manifest says {wanted}")


def execution_provider(provider: Provider) -> str:
    """The execution provider that `provider` means here; raises ProviderError when "cuda" does not work.

    onnxruntime lists CUDA wherever it was built with it, and falls back in silence: only a session tells the truth.
    """
    fault = None if provider == "cpu" else _cuda_fault()
    if provider == "cuda" and fault:
        raise ProviderError(f"--provider cuda: {fault}; mend that, or use --provider cpu")
    if provider == "auto":
        log.info("provider auto takes %s", f"the CPU: {fault}" if fault else "CUDA")
    return CUDA if provider != "cpu" and not fault else CPU


def _cuda_fault() -> str | None:
    if CUDA not in onnxruntime.get_available_providers():
        return "this onnxruntime is built without CUDA (onnxruntime-gpu is)"
    with redirect_stdout(StringIO()) as said:  # it prints what it misses, and stdout is for what scripts read
        onnxruntime.preload_dlls()  # CUDA and cuDNN from their wheels, where there are any
    log.debug("loading CUDA: %s", said.getvalue().strip() or "nothing missed")
    try:
        session = onnxruntime.InferenceSession(_PROBE, providers=[CUDA], enable_fallback=0)
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        return f"onnxruntime cannot use CUDA here: {_first_line(error)}"
    if session.get_providers()[0] != CUDA:
        return "onnxruntime cannot use CUDA here (it needs an NVIDIA driver, CUDA 13 and cuDNN 9)"
    return None


def _create(name: str, content: bytes, provider: str, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if provider == CUDA:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = onnxruntime.InferenceSession(
            content,
            options,
            providers=[(provider, PROVIDER_OPTIONS[provider])],
            enable_fallback=0,  # else a failing run moves to the CPU, and the answer names the wrong provider
        )
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        raise VersionRefusedError(f"{name}: onnxruntime cannot load it: {_first_line(error)}") from error
    if session.get_providers()[0] != provider:
        raise VersionRefusedError(f"{name}: onnxruntime did not take {provider} for it")
    return session


_ONNX_TYPES = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
