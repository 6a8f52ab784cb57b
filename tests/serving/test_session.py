"""A loaded model version."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from protos.digits.v1.digits_pb2 import ClassifyResponse
from serving.errors import ProviderError, VersionRefusedError
from serving.pixels import Images
from serving.provider import CPU, CUDA, execution_provider
from serving.session import Session
from serving.versions.manifest import KnownAnswers, Version
from tests.serving.conftest import has_cuda


@pytest.fixture
def version(versions: Mapping[int, Version]) -> Version:
    """Version 1."""
    return versions[1]


@pytest.fixture
def session(version: Version) -> Session:
    """Version 1, loaded."""
    return Session(version, provider=CPU, threads=1)


def test_it_labels_nearly_every_test_image_rightly(session: Session, images: Images, labels: Images) -> None:
    """The model is a real one."""
    digits = session.run(images).probabilities.argmax(axis=1)
    assert (digits == labels).mean() > 0.97


def test_probabilities_are_the_softmax_of_the_logits(session: Session, images: Images) -> None:
    """Both come out of the graph."""
    answers = session.run(images[:50])
    powers = np.exp(answers.logits - answers.logits.max(axis=1, keepdims=True))
    assert np.allclose(answers.probabilities, powers / powers.sum(axis=1, keepdims=True), atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 129])
def test_an_answer_has_the_same_bits_in_every_batch(session: Session, images: Images, size: int) -> None:
    """Who shares a batch with whom never shows in an answer."""
    whole = session.run(images).logits
    parts = [session.run(images[start : start + size]).logits for start in range(0, len(images), size)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_several_threads_may_run_it_at_once(session: Session, images: Images) -> None:
    """Four threads, forty runs, the same answers."""
    expected = session.run(images).logits
    with ThreadPoolExecutor(4) as pool:
        assert all(np.array_equal(answers.logits, expected) for answers in pool.map(session.run, [images] * 40))


def test_the_known_answers_come_out(session: Session, version: Version) -> None:
    """What PyTorch said is what this session says."""
    session.check_known_answers(version.known_answers)


@pytest.mark.parametrize("field", ["logits", "probabilities"])
def test_other_answers_than_the_known_ones_refuse_the_version(session: Session, version: Version, field: str) -> None:
    """One number off by a thousandth is enough."""
    wrong = getattr(version.known_answers, field).copy()
    wrong[5, 5] += 0.001 * max(1.0, float(np.abs(wrong).max()))
    with pytest.raises(VersionRefusedError, match=f"known answers: {field} are .* away"):
        session.check_known_answers(replace(version.known_answers, **{field: wrong}))


def test_known_answers_that_are_not_numbers_refuse_the_version(session: Session, version: Version) -> None:
    """A NaN compares with nothing, and so passes nothing."""
    known = version.known_answers
    with pytest.raises(VersionRefusedError):
        session.check_known_answers(KnownAnswers(known.images, known.logits, known.probabilities * np.nan))


def test_a_model_with_other_weights_does_not_give_the_known_answers(versions: Mapping[int, Version]) -> None:
    """The model of version 2 under the manifest of version 1."""
    stranger = Session(replace(versions[1], model=versions[2].model), provider=CPU, threads=1)
    with pytest.raises(VersionRefusedError, match="known answers"):
        stranger.check_known_answers(versions[1].known_answers)


@pytest.mark.parametrize("model", [b"", b"no model", b"\x08\x0a"], ids=["empty", "text", "only a version"])
def test_bytes_that_are_no_model_are_refused(version: Version, model: bytes) -> None:
    """onnxruntime's reason stands in one line."""
    with pytest.raises(VersionRefusedError, match=r"^model\.onnx: onnxruntime cannot load it: .*$"):
        Session(replace(version, model=model), provider=CPU, threads=1)


def test_a_model_with_another_signature_than_its_manifest_is_refused(versions: Mapping[int, Version]) -> None:
    """The manifest promises 14 x 14 images; the graph takes 28 x 28."""
    version = versions[1]
    manifest = type(version.manifest).FromString(version.manifest.SerializeToString())
    manifest.signature.inputs[0].shape[1:] = [14, 14]
    with pytest.raises(VersionRefusedError, match="signature"):
        Session(replace(version, manifest=manifest), provider=CPU, threads=1)


def test_warming_up_runs_up_to_the_largest_batch(session: Session) -> None:
    """It is a real run of the model, and so would fail where the model fails; how long it took is known then."""
    session.warm_up(100)
    assert 0 < session.pace.run_s(1) < session.pace.run_s(64) < 10


def test_a_batch_is_predicted_and_encoded_call_by_call(session: Session, images: Images) -> None:
    """From the bytes of the images to a message for each call, with the numbers of a run."""
    answers = session.run(images[:10])
    outputs = session.predict([images[:10].tobytes()])
    assert all(np.array_equal(*pair) for pair in zip(outputs, answers, strict=True))
    messages = [ClassifyResponse.FromString(content) for content in session.encode(outputs, [1, 7, 2])]
    assert [digit for message in messages for digit in message.digits] == answers.probabilities.argmax(axis=1).tolist()
    assert [len(message.probabilities) for message in messages] == [10, 70, 20]
    assert {message.model_version for message in messages} == {session.manifest.version}


def test_auto_takes_a_provider_that_works() -> None:
    """CUDA where it works, else the CPU."""
    assert execution_provider("auto") == (CUDA if has_cuda() else CPU)


@pytest.mark.skipif(has_cuda(), reason="there is a CUDA device here")
def test_cuda_without_a_card_is_an_error_in_one_line() -> None:
    """Never a silent fallback: onnxruntime lists CUDA, and would run on the CPU."""
    assert CUDA in onnxruntime.get_available_providers() or "gpu" not in onnxruntime.__name__
    with pytest.raises(ProviderError, match=r"^--provider cuda: .*use --provider cpu$"):
        execution_provider("cuda")
