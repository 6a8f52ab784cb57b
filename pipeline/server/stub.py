"""What the pipeline asks a running server: which model it has, and what it answers."""

from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from pipeline.errors import NoAnswerError
from pipeline.server.own_address import without_proxy
from protos.digits.v1.digits_pb2 import ClassifyRequest, ClassifyResponse, GetModelRequest, GetModelResponse

SERVICE = "/digits.v1.DigitService"
OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # a new connection each time: behind an address may be many servers
]

Response = TypeVar("Response", bound=Message)


class Stub:
    """A connection to the server at `address`, HOST:PORT; every method raises NoAnswerError with the server's words."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel = grpc.insecure_channel(address, options=[*OPTIONS, *without_proxy(address)])

    def get_model(self, timeout_s: float) -> GetModelResponse:
        """The model version that answers now."""
        return self._call("GetModel", GetModelRequest(), GetModelResponse, timeout_s)

    def classify(self, images: NDArray[np.uint8], timeout_s: float) -> ClassifyResponse:
        """The answers to `images`, uint8 (image, row, column)."""
        request = ClassifyRequest(image_count=len(images), pixels=images.tobytes())
        return self._call("Classify", request, ClassifyResponse, timeout_s)

    def _call(self, name: str, request: Message, response: type[Response], timeout_s: float) -> Response:
        method: Any = self._channel.unary_unary(
            f"{SERVICE}/{name}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=response.FromString,
        )
        try:
            answer: Response = method(request, timeout=max(0.0, timeout_s))
        except grpc.RpcError as error:
            code, details = error.code(), error.details()
            raise NoAnswerError(f"{self._address} answers {name} with {code.name}: {details}") from error
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._channel.close()
