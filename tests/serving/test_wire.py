"""Whatever bytes arrive: the server answers by its table, and the next good call is answered rightly.

The quick test draws the same requests every time. The slow one draws new ones. When one of them fails, hypothesis
prints the request and a line `@reproduce_failure(...)`, which above `send` plays that failure again; a request that
found a fault is then kept in INTERESTING, which both tests send first.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc import code_pb2, error_details_pb2
from grpc_status import rpc_status
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from protos.digits.v1.digits_pb2 import ClassifyRequest, ClassifyResponse
from serving.errors import STATUSES, InvalidRequestError, OverloadedError, UnknownVersionError
from serving.session import Session
from tests.programs import resident_bytes, server_process
from tests.serving.conftest import TRANSPORTS, Publisher
from tests.serving.test_pixels import PICTURE, png

IMAGE_BYTES = 28 * 28
REASONS = {STATUSES[error].code: STATUSES[error].reason for error in (InvalidRequestError, UnknownVersionError)}
"""What bytes alone can bring about. Never INTERNAL or UNKNOWN, and neither that nobody answers, nor in time."""
TOO_LARGE = STATUSES[OverloadedError].code
"""grpcio's own answer to a message above the limit, without details."""


def varint(value: int) -> bytes:
    """An integer as protobuf writes it: seven bits a byte, the lowest first; the eighth says that more follow."""
    return bytes([value & 127 | 128]) + varint(value >> 7) if value > 127 else bytes([value])


def unknown(number: int, content: bytes) -> bytes:
    """A field of bytes that no message of ours has, or one of ours if `number` is its number."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def files() -> st.SearchStrategy[bytes]:
    """PNG files: whole, of another size or kind, cut; and what is none."""
    sizes = st.sampled_from([28, 28, 28, 1, 27, 29, 300])
    kinds = st.sampled_from(["L", "L", "RGB", "RGBA", "LA", "P", "1", "I;16"])
    whole = st.builds(lambda height, width, kind: png(np.resize(PICTURE, (height, width)), kind), sizes, sizes, kinds)
    return whole | st.builds(lambda file, share: file[: int(share * len(file))], whole, st.floats(0, 1)) | st.binary()


def requests() -> st.SearchStrategy[ClassifyRequest]:
    """Every field, also those that contradict one another; about one in four makes sense."""
    any_int32 = st.integers(-(2**31), 2**31 - 1)
    counts = st.integers(0, 3) | st.sampled_from([1024, 1025]) | any_int32
    pixels = st.integers(0, 3).map(lambda count: bytes(range(256)) * 13 * count)
    return st.builds(
        ClassifyRequest,
        image_count=counts,
        pixels=st.integers(0, 3).map(lambda count: PICTURE.tobytes() * count) | pixels | st.binary(max_size=1000),
        encoded_images=st.just([]) | st.lists(files(), max_size=4),
        photos=st.just([]) | st.lists(files(), max_size=4),
        model_version=st.sampled_from([0, 0, 0, 1, 2]) | any_int32,
    ) | st.builds(
        lambda count, version: ClassifyRequest(
            image_count=count, pixels=PICTURE.tobytes() * count, model_version=version
        ),
        st.integers(1, 64),
        st.sampled_from([0, 1, 2]),
    )


Change = Callable[[bytes], bytes]


def changes() -> st.SearchStrategy[Change]:
    """One change of a message on the wire: a byte replaced, bytes cut, put in or doubled, a field added."""
    places, some = st.floats(0, 1), st.binary(min_size=1, max_size=20)

    def at(place: float, content: bytes) -> int:
        return int(place * len(content))

    return st.one_of(
        st.builds(lambda p, new: lambda old: old[: at(p, old)] + new + old[at(p, old) + len(new) :], places, some),
        st.builds(
            lambda p, count: lambda old: old[: at(p, old)] + old[at(p, old) + count :], places, st.integers(1, 99)
        ),
        st.builds(lambda p, new: lambda old: old[: at(p, old)] + new + old[at(p, old) :], places, some),
        st.builds(lambda p: lambda old: old[: at(p, old)] + old[at(p, old) // 2 :], places),
        st.builds(lambda number, new: lambda old: old + unknown(number, new), st.integers(1, 2**29 - 1), some),
    )


def messages() -> st.SearchStrategy[bytes]:
    """Requests as bytes, half of them changed on their way."""

    def change(request: ClassifyRequest, steps: Sequence[Change]) -> bytes:
        content = request.SerializeToString()
        for step in steps:
            content = step(content)
        return content

    return st.builds(change, requests(), st.just([]) | st.lists(changes(), min_size=1, max_size=4))


INTERESTING: Mapping[str, ClassifyRequest | bytes] = {
    "nothing": b"",
    "all the images that a call may hold": ClassifyRequest(image_count=1024, pixels=bytes(1024 * IMAGE_BYTES)),
    "one too many": ClassifyRequest(image_count=1025, pixels=bytes(1025 * IMAGE_BYTES)),
    "more bytes than a message may have": ClassifyRequest(image_count=1, pixels=bytes(2**22)),
    "the largest count": ClassifyRequest(image_count=2**31 - 1, pixels=bytes(IMAGE_BYTES)),
    "the smallest count": ClassifyRequest(image_count=-(2**31), pixels=bytes(IMAGE_BYTES)),
    "a version that is not there": ClassifyRequest(image_count=1, pixels=bytes(IMAGE_BYTES), model_version=-1),
    "files beyond the limit": ClassifyRequest(encoded_images=[b""] * 1025),
    "a file without its end": ClassifyRequest(encoded_images=[png(PICTURE)[:-20]]),
    "a field within a field that never ends": b"\x13" * 1000,
    "a length beyond the end": b"\x12\xff\xff\xff\xff\x07",
    "a good request and an unknown field": ClassifyRequest(image_count=1, pixels=bytes(IMAGE_BYTES)).SerializeToString()
    + unknown(1000, b"later"),
}


@dataclass
class Wire:
    """A server program, and a way to send it any bytes."""

    process_id: int
    classify: Any
    sessions: Mapping[int, Session]
    codes: Counter[str] = field(default_factory=Counter)

    def send(self, content: bytes) -> None:
        """Send; demand an answer by the table, a right one if it is OK, and a right one to the next good call."""
        try:
            response = ClassifyResponse.FromString(self.classify(content, timeout=10))
        except grpc.RpcError as error:
            self.codes[error.code().name] += 1
            code = error.code().value[0]
            assert code in REASONS or (code == TOO_LARGE and len(content) > 2**22), error
            if code in REASONS:
                assert reason_of(error) == REASONS[code]
        else:
            self.codes["OK"] += 1
            self.check(ClassifyRequest.FromString(content), response)
        good = ClassifyRequest(image_count=2, pixels=PICTURE.tobytes() * 2)
        self.check(good, ClassifyResponse.FromString(self.classify(good.SerializeToString(), timeout=10)))

    def check(self, request: ClassifyRequest, response: ClassifyResponse) -> None:
        """Demand the answer of the version that was named, for every image; for pixels bit by bit."""
        files = request.encoded_images or request.photos
        image_count = len(files) or request.image_count
        assert response.model_version == (request.model_version or 2)
        assert len(response.digits) == image_count
        if not request.encoded_images:
            pixels = response.pixels if request.photos else request.pixels
            images = np.frombuffer(pixels, np.uint8).reshape(image_count, 28, 28)
            expected = self.sessions[response.model_version].run(images).probabilities
            assert np.array_equal(np.array(response.probabilities, np.float32), expected.ravel())


def reason_of(error: Any) -> str:
    """What ErrorInfo says."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    assert status is not None
    assert status.details[0].Unpack(info)
    return str(info.reason)


@pytest.fixture(scope="module", params=TRANSPORTS)
def wire(
    tmp_path_factory: pytest.TempPathFactory, sessions: Mapping[int, Session], request: pytest.FixtureRequest
) -> Iterator[Wire]:
    """A server of versions 1 and 2, the current one."""
    folder = tmp_path_factory.mktemp("wire")
    publisher = Publisher(folder / "repository")
    publisher.publish(1)
    publisher.publish(2)
    options = ("--transport", request.param, "--provider", "cpu", "--versions", "previous", "--drain-linger-s", "0")
    with (
        server_process(publisher.root, folder / "log", *options) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        yield Wire(server.answering_pid, channel.unary_unary("/digits.v1.DigitService/Classify"), sessions)


def bombard(wire: Wire, *, count: int, derandomize: bool) -> None:
    """Send what is interesting, and `count` drawn messages."""

    @settings(
        max_examples=count,
        derandomize=derandomize,
        print_blob=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(messages())
    def send(content: bytes) -> None:
        wire.send(content)

    for content in INTERESTING.values():
        send = example(content if isinstance(content, bytes) else content.SerializeToString())(send)
    send()


def test_five_hundred_drawn_messages_are_answered_by_the_table(wire: Wire) -> None:
    """The same ones every time, and among them some of every kind."""
    bombard(wire, count=500, derandomize=True)
    assert set(wire.codes) == {"OK", "RESOURCE_EXHAUSTED", *(code_pb2.Code.Name(code) for code in REASONS)}
    assert min(wire.codes["OK"], wire.codes["INVALID_ARGUMENT"], wire.codes["NOT_FOUND"]) > 10


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(900)
def test_ten_thousand_drawn_messages_leave_no_memory_behind(wire: Wire) -> None:
    """New ones every time."""
    bombard(wire, count=1000, derandomize=False)
    before = resident_bytes(wire.process_id)
    bombard(wire, count=10_000, derandomize=False)
    grown = resident_bytes(wire.process_id) - before
    print(dict(wire.codes), f"grew by {grown / 2**20:.1f} MiB")
    assert grown < 20 * 2**20
