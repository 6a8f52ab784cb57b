"""What each server is asked and how its answer is read: bodies, headers, digits."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

import grpc
import numpy as np

from protos.digits.v1.digits_pb2 import ClassifyRequest, ClassifyResponse
from serving.pixels import Images

TIMEOUT_S = 10.0
CLASSES = 10


@dataclass(frozen=True)
class Protocol:
    """One method: POST over HTTP/1.1, or gRPC, where the body is the message and the path names the method."""

    path: str
    content_type: str
    body: Callable[[Images], bytes]
    digits: Callable[[bytes], list[int]]
    is_grpc: bool = False

    def ask(self, port: int, images: Images) -> list[int]:
        """The digits that the server on `port` sees; raises OSError, grpc.RpcError or ValueError if it has none."""
        answer = self._ask_grpc(port, self.body(images)) if self.is_grpc else self._ask_http(port, self.body(images))
        return self.digits(answer)

    def _ask_grpc(self, port: int, body: bytes) -> bytes:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            method: Any = channel.unary_unary(self.path)
            return bytes(method(body, timeout=TIMEOUT_S))

    def _ask_http(self, port: int, body: bytes) -> bytes:
        with closing(HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)) as connection:
            connection.request("POST", self.path, body, {"content-type": self.content_type})
            response = connection.getresponse()
            answer = response.read()
            if response.status != 200:
                raise ValueError(f"{self.path} on port {port} answered {response.status}: {answer[:200]!r}")
            return answer


def _argmax(probabilities: bytes) -> list[int]:
    return np.frombuffer(probabilities, np.float32).reshape(-1, CLASSES).argmax(axis=1).tolist()  # type: ignore[no-any-return]


def _json_body(images: Images) -> bytes:
    tensor = {"name": "images", "datatype": "UINT8", "shape": images.shape, "data": images.ravel().tolist()}
    return json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()


def _json_digits(answer: bytes) -> list[int]:
    return _argmax(np.array(json.loads(answer)["outputs"][0]["data"], np.float32).tobytes())


def _varint(number: int) -> bytes:
    return bytes([number]) if number < 0x80 else bytes([number & 0x7F | 0x80]) + _varint(number >> 7)


def _field(number: int, content: bytes) -> bytes:
    """A protobuf field of type 2: bytes, a string, a message, or packed numbers."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The fields of a message in which all are of type 2."""
    rest = message
    while rest:
        tag, rest = _split_varint(rest)
        length, rest = _split_varint(rest)
        yield tag >> 3, rest[:length]
        rest = rest[length:]


def _split_varint(message: bytes) -> tuple[int, bytes]:
    if message[0] < 0x80:
        return message[0], message[1:]
    high, rest = _split_varint(message[1:])
    return high << 7 | message[0] & 0x7F, rest


def _infer_body(images: Images) -> bytes:
    """A ModelInferRequest of the V2 protocol (grpc_predict_v2.proto), with a raw tensor."""
    shape = b"".join(map(_varint, images.shape))
    tensor = _field(1, b"images") + _field(2, b"UINT8") + _field(3, shape)
    return _field(1, b"digits") + _field(5, tensor) + _field(7, images.tobytes())


def _infer_digits(answer: bytes) -> list[int]:
    """From a ModelInferResponse with one raw tensor."""
    (tensor,) = (content for number, content in _fields(answer) if number == 6)
    return _argmax(tensor)


DIGITS = Protocol(
    path="/digits.v1.DigitService/Classify",
    content_type="application/grpc",
    body=lambda images: ClassifyRequest(image_count=len(images), pixels=images.tobytes()).SerializeToString(),
    digits=lambda answer: list(ClassifyResponse.FromString(answer).digits),
    is_grpc=True,
)

V2_GRPC = Protocol(
    path="/inference.GRPCInferenceService/ModelInfer",
    content_type="application/grpc",
    body=_infer_body,
    digits=_infer_digits,
    is_grpc=True,
)

V2_REST = Protocol(
    path="/v2/models/digits/infer", content_type="application/json", body=_json_body, digits=_json_digits
)


def pixels(path: str) -> Protocol:
    """Pixels in, probabilities out, float32, both as plain bytes."""
    return Protocol(path, "application/octet-stream", lambda images: images.tobytes(), _argmax)
