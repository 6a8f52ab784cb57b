"""digits.v1.DigitService: convert, call, convert."""

import math
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from protos.digits.v1 import digits_pb2
from protos.digits.v1.digits_pb2 import (
    ClassifyRequest,
    GetFeatureMapsRequest,
    GetFeatureMapsResponse,
    GetModelRequest,
    GetModelResponse,
)
from serving.answer import pixels_field
from serving.aside import Aside
from serving.batching.batcher import Batcher
from serving.call import Call, Method
from serving.decoder import Decoder
from serving.errors import InvalidRequestError
from serving.pixels import check_pixels, from_pixels
from serving.session import Session
from serving.versions.repository import Refusal, Repository

ENVELOPE_BYTES = 64  # of a message around its pixels


class DigitService:
    """Classifies images, describes the model that does, and shows what its layers see."""

    descriptor: ServiceDescriptor = digits_pb2.DESCRIPTOR.services_by_name["DigitService"]

    def __init__(
        self,
        repository: Repository,
        batcher: Batcher[Session],
        decoder: Decoder,
        aside: Aside,
        *,
        max_image_count: int,
        max_message_bytes: int,
    ) -> None:
        self._repository = repository
        self._batcher = batcher
        self._decoder = decoder
        self._aside = aside
        self._max_image_count = max_image_count
        self._max_message_bytes = max_message_bytes
        self.methods: Mapping[str, Method] = {
            "Classify": self.classify,
            "GetModel": self.get_model,
            "GetFeatureMaps": self.get_feature_maps,
        }

    def classify(self, request: ClassifyRequest, call: Call) -> Awaitable[None] | None:
        """Classify the images of one call."""
        session = self._repository.session(request.model_version)
        files = request.encoded_images or request.photos
        image_count = _image_count(request, files) if files else request.image_count
        if not 1 <= image_count <= self._limit(session):
            raise self._wrong_count(image_count, session)
        call.facts = {"image_count": image_count, "model_version": session.manifest.version}
        if files:
            return self._classify_files(files, request, session, call)
        check_pixels(request.pixels, image_count, session.image_shape)
        self._batcher.submit(call, session, (request.pixels,), image_count)
        return None

    async def _classify_files(
        self, files: Sequence[bytes], request: ClassifyRequest, session: Session, call: Call
    ) -> None:
        decode = self._decoder.photos if request.photos else self._decoder.png
        pixels = (await decode(files, session.image_shape)).tobytes()
        if request.photos:
            call.suffix = pixels_field(pixels)
        self._batcher.submit(call, session, (pixels,), len(files))

    async def get_model(self, request: GetModelRequest, _call: Call) -> GetModelResponse:
        """Describe the model version that answers now, or the one that the request names."""
        loaded = self._repository.find(request.model_version)
        manifest = loaded.session.manifest
        height, width, *colours = loaded.session.image_shape
        since = Timestamp()
        since.FromMilliseconds(round(loaded.loaded_s * 1000))
        return GetModelResponse(
            model_name=manifest.model_name,
            model_version=manifest.version,
            model_sha256=next(file.sha256 for file in manifest.files if file.path == "model.onnx"),
            provider=loaded.session.provider,
            image_height=height,
            image_width=width,
            image_channels=math.prod(colours),
            labels=manifest.labels,
            max_image_count=self._limit(loaded.session),
            accuracy=manifest.evaluation.accuracy,
            created=manifest.created,
            loaded=since,
            refusal=_refusal(self._repository.refusal),
            loaded_versions=self._repository.loaded_versions,
        )

    async def get_feature_maps(self, request: GetFeatureMapsRequest, call: Call) -> GetFeatureMapsResponse:
        """Show what the layers make of one image."""
        session = self._repository.session(request.model_version)
        images = from_pixels(request.pixels, 1, session.image_shape)
        call.facts["model_version"] = session.manifest.version
        layers = await self._aside.do(partial(session.features.look, images))
        return GetFeatureMapsResponse(
            layers=layers,
            model_name=session.manifest.model_name,
            model_version=session.manifest.version,
            provider=session.provider,
        )

    def _wrong_count(self, image_count: int, session: Session) -> InvalidRequestError:
        limit = self._limit(session)
        return InvalidRequestError(
            f"image_count: came {image_count}, expected 1 to {limit}: split them over more calls",
            field="image_count",
            metadata={"image_count": image_count, "max_image_count": limit},
        )

    def _limit(self, session: Session) -> int:
        """How many images one call may hold: what is set, and what fits into a message."""
        return max(1, min(self._max_image_count, (self._max_message_bytes - ENVELOPE_BYTES) // session.image_bytes))


def _image_count(request: ClassifyRequest, files: Sequence[bytes]) -> int:
    """The number of images in a request with files; raises InvalidRequestError when it contradicts itself."""
    *others, last = (name for name in ("pixels", "encoded_images", "photos") if getattr(request, name))
    if others:
        raise InvalidRequestError(f"{last}: came beside {' and '.join(others)}, expected one of them", field=last)
    if request.image_count not in (0, len(files)):
        raise InvalidRequestError(
            f"image_count: came {request.image_count}, expected {len(files)}, the number of {last}, or 0",
            field="image_count",
        )
    return len(files)


def _refusal(refusal: Refusal | None) -> digits_pb2.Refusal | None:
    if refusal is None:
        return None
    return digits_pb2.Refusal(model_version=refusal.version, generation=refusal.generation, reason=refusal.reason)
