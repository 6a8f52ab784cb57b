"""What gRPC puts into HTTP: messages in frames, deadlines, metadata, status and compression.

https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md and compression.md.
"""

import base64
import binascii
import gzip
import re
import zlib
from collections.abc import Mapping
from urllib.parse import quote_from_bytes

from google.rpc import code_pb2, status_pb2

from serving.engine.transport.exchange import Header
from serving.engine.transport.rpc import RpcError, Trailers

PREFIX_BYTES = 5
"""Before each message: whether it is compressed, and its length."""

ENCODINGS = b"identity,gzip,deflate"
"""How a message may be compressed."""

_WBITS = {b"gzip": zlib.MAX_WBITS | 16, b"deflate": zlib.MAX_WBITS}
_TIMEOUT = re.compile(rb"(\d{1,8})([HMSmun])")
_UNIT_S = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_NOT_METADATA = {b"content-type", b"te", b"host", b"content-length", b":authority", b":scheme"}
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


def frame(content: bytes, *, is_compressed: bool = False) -> bytes:
    """A message as it is sent."""
    return (b"\1" if is_compressed else b"\0") + len(content).to_bytes(4) + content


def seconds(timeout: bytes) -> float:
    """A grpc-timeout, such as b"50m" for 50 milliseconds; raises RpcError."""
    parts = _TIMEOUT.fullmatch(timeout)
    if parts is None:
        raise RpcError(
            code_pb2.INTERNAL, f"grpc-timeout: got {shown(timeout)}, expected up to 8 digits and one of H M S m u n"
        )
    return int(parts[1]) * _UNIT_S[parts[2]]


def metadata_of(headers: Mapping[bytes, bytes]) -> dict[str, str | bytes]:
    """A request's metadata: its headers without those of HTTP and gRPC, "-bin" ones decoded."""
    return {
        name.decode("latin-1"): _from_base64(value) if name.endswith(b"-bin") else value.decode("latin-1")
        for name, value in headers.items()
        if name not in _NOT_METADATA and not name.startswith(b"grpc-")
    }


def status_trailers(status: status_pb2.Status, trailers: Trailers = ()) -> list[Header]:
    """How a call ends, with its trailing metadata."""
    headers = [(b"grpc-status", b"%d" % status.code)]
    if status.message:
        headers.append((b"grpc-message", percent_encoded(status.message)))
    if status.details:
        details = base64.b64encode(status.SerializeToString()).rstrip(b"=")
        headers.append((b"grpc-status-details-bin", details))
    return [*headers, *((name.encode(), value.encode()) for name, value in trailers)]


def percent_encoded(text: str) -> bytes:
    """As grpc-message is written: printable ASCII but for "%", all else in UTF-8 as %XX."""
    return quote_from_bytes(text.encode(errors="replace"), safe=_PRINTABLE).encode()


def compressed(encoding: bytes, content: bytes) -> bytes:
    """A message as gzip or deflate, quickly."""
    return gzip.compress(content, compresslevel=1, mtime=0) if encoding == b"gzip" else zlib.compress(content, 1)


def inflated(encoding: bytes, content: bytes, max_bytes: int) -> bytes:
    """A compressed message; raises RpcError where it is broken, or longer than `max_bytes`: no more is made."""
    if encoding == b"identity":
        raise RpcError(code_pb2.INTERNAL, "message: got a compressed one without grpc-encoding")
    if encoding not in _WBITS:
        raise RpcError(
            code_pb2.UNIMPLEMENTED, f"grpc-encoding: got {shown(encoding)}, expected one of {ENCODINGS.decode()}"
        )
    decompressor = zlib.decompressobj(wbits=_WBITS[encoding])
    try:
        message = decompressor.decompress(content, max_bytes + 1)
    except zlib.error as error:
        raise RpcError(code_pb2.INTERNAL, f"message: cannot be inflated as {encoding.decode()}") from error
    if len(message) > max_bytes:
        raise too_large(f"more than {max_bytes}", max_bytes)
    if not decompressor.eof:
        raise RpcError(code_pb2.INTERNAL, f"message: its {encoding.decode()} ends too soon")
    return message


def too_large(length: object, limit: int) -> RpcError:
    """In grpcio's words, which clients know."""
    return RpcError(code_pb2.RESOURCE_EXHAUSTED, f"Received message larger than max ({length} vs. {limit})")


def shown(value: bytes) -> str:
    """What a caller sent, as it may stand in a message: at most 100 characters, escaped."""
    return repr(value[:100])[1:]


def _from_base64(value: bytes) -> bytes:
    """With or without padding; what is not base64 stays as it is."""
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4))
    except binascii.Error:
        return value
