"""A session: one model version loaded into onnxruntime on one execution provider."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protos.artifact.layout import FEATURES, MODEL
from protos.artifact.v1.manifest_pb2 import Manifest
from protos.digits.v1.digits_pb2 import ClassifyResponse
from serving.answer import encode
from serving.batching.pace import Pace
from serving.batching.queue import Outputs, Tensors
from serving.buckets import Buckets
from serving.errors import DeviceMemoryError, VersionRefusedError
from serving.feature_maps import Features
from serving.pixels import Images
from serving.provider import CUDA, RunOptions, create_session, is_out_of_memory, time_limit
from serving.versions.manifest import KnownAnswers, Version

OUTPUTS = ["logits", "probabilities"]
TIMED_RUNS = 3
NO_MEMORY_RETRY_S = 1.0


class Answers(NamedTuple):
    """What the model gives for some images."""

    logits: NDArray[np.float32]
    """float32 (image, class)"""
    probabilities: NDArray[np.float32]
    """float32 (image, class), [0, 1]"""


class Session:
    """A loaded version. `run` may be called from several threads at once.

    `provider` is an execution provider, as `execution_provider` gives it; every node runs on it. On a card so many runs
    as there are `lanes` go on at the same time, and take at most `gpu_memory_mib` of its memory. Raises
    VersionRefusedError when onnxruntime cannot load the model so, or when its signature is not the manifest's.
    """

    def __init__(
        self, version: Version, *, provider: str, threads: int, lanes: int = 1, gpu_memory_mib: int | None = None
    ) -> None:
        self.manifest: Manifest = version.manifest
        self.image_shape = version.image_shape
        self.image_bytes = math.prod(version.image_shape)
        create = partial(create_session, provider=provider, threads=threads, gpu_memory_mib=gpu_memory_mib)
        self._runtime = create(MODEL, version.model)
        self._buckets = (
            Buckets(self._runtime, self.image_shape, device="cuda", lanes=lanes) if provider == CUDA else None
        )
        self.features = Features(version, partial(create, FEATURES))
        """What its layers make of an image."""
        self.provider = provider
        self._constant = ClassifyResponse(
            model_name=self.manifest.model_name, model_version=self.manifest.version, provider=provider
        ).SerializeToString()
        """What every response says besides, as it stands in a message."""
        self.pace = Pace()
        """How long runs take; knows nothing before `warm_up`."""
        self._options: RunOptions | None = None
        self._check_signature()

    def run(self, images: Images) -> Answers:
        """Classify images, uint8 (image, *image_shape); raises DeviceMemoryError where there is no room for so many."""
        try:
            if self._buckets is not None:
                return Answers(**self._buckets.run(images, self._options))
            return Answers(*self._runtime.run(OUTPUTS, {"images": images}, self._options))
        except Exception as error:  # onnxruntime's exceptions share no base class of their own
            if not is_out_of_memory(error):
                raise
            raise DeviceMemoryError(
                f"there is no memory left for {len(images)} images at once on {self.provider}; send fewer in a call, "
                "or try again",
                retry_after_s=NO_MEMORY_RETRY_S,
            ) from error

    @contextmanager
    def limit(self, limit_s: float) -> Iterator[None]:
        """End runs within this block, which is one thread's, after `limit_s`; raises VersionHungError if any had to."""
        with time_limit(limit_s) as self._options:
            yield
        self._options = None

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

    def predict(self, tensors: Tensors) -> Outputs:
        """What `run` gives for the bytes of some images."""
        return self.run(np.frombuffer(tensors[0], np.uint8).reshape(-1, *self.image_shape))

    def encode(self, outputs: Outputs, row_counts: Sequence[int]) -> list[bytes]:
        """A ClassifyResponse for each call of a batch."""
        return encode(outputs[1], row_counts, self._constant)

    def warm_up(self, max_image_count: int) -> None:
        """Run every power of two up to `max_image_count`, and that, so that no caller pays for a first time; time them.

        The best of some runs counts: what else the machine does is not the model's time.
        """
        powers = [1 << power for power in range(max_image_count.bit_length())]
        run_s = {}
        for image_count in sorted({*powers, max_image_count}):
            images = np.zeros((image_count, *self.image_shape), np.uint8)
            if self._buckets is not None:
                self._buckets.set_up(image_count)
            self.run(images)
            run_s[image_count] = min(self._timed_s(images) for _ in range(TIMED_RUNS))
        self.pace = Pace(run_s)

    def _timed_s(self, images: Images) -> float:
        began = time.perf_counter()
        self.run(images)
        return time.perf_counter() - began

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


_ONNX_TYPES = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}
