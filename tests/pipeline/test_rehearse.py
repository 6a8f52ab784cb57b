"""The rehearsal: real servers, and programs that are none."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from pipeline.errors import RehearsalError
from pipeline.gates.verdict import Verdict
from pipeline.rehearse import rehearse
from tests.pipeline.candidates import Candidate
from tests.programs import ROOT

PROVIDERS = ("CPUExecutionProvider",)


def rehearse_with(code: str, candidate: Candidate, within_s: float = 60.0, keep_in: Path = Path("unused")) -> Verdict:
    """Rehearse with a program in the place of the server."""
    command = (sys.executable, "-c", code)
    given = (candidate.folder, candidate.description)
    return rehearse(*given, providers=PROVIDERS, command=command, within_s=within_s, keep_in=keep_in)


def failure(code: str, candidate: Candidate, tmp_path: Path, within_s: float = 60.0) -> str:
    """Why a rehearsal with a program could not be carried out; the candidate is kept as it is."""
    with pytest.raises(RehearsalError, match="the rehearsal could not be carried out: ") as raised:
        rehearse_with(code, candidate, within_s, keep_in=tmp_path / "kept")
    (kept,) = (tmp_path / "kept" / candidate.description.model_name).iterdir()
    assert f"the candidate is kept in {kept}" in str(raised.value)
    for file in candidate.folder.iterdir():
        assert file.is_dir() or (kept / file.name).read_bytes() == file.read_bytes()
    return str(raised.value)


def test_a_server_answers_as_pytorch_did(candidate: Candidate) -> None:
    """The serving program itself loads the candidate and answers over gRPC."""
    verdict = rehearse(candidate.folder, candidate.description, providers=PROVIDERS)
    assert verdict.passed, verdict.detail
    assert not verdict.skipped
    assert "the server answered 64 known answers on CPUExecutionProvider" in verdict.detail


def test_settings_in_the_environment_are_not_for_the_rehearsal(
    candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host's own server may have a port there, or a setting that is wrong."""
    monkeypatch.setenv("SERVING_NONSENSE", "1")
    assert rehearse(candidate.folder, candidate.description, providers=PROVIDERS).passed


def test_a_candidate_that_the_server_refuses_is_refused(candidate: Candidate, tmp_path: Path) -> None:
    """Other weights than the known answers are of: the server's own words are the reason."""
    verdict = rehearse(candidate.spoilt(tmp_path / "worse", by=0.3).folder, candidate.description, providers=PROVIDERS)
    assert not verdict.passed
    assert verdict.detail.startswith("the server rejects the candidate: known answers: logits are")


def test_a_server_that_answers_otherwise_refuses_the_candidate(candidate: Candidate, tmp_path: Path) -> None:
    """A real server, but it serves another model: only what comes over the wire shows it."""
    other = candidate.spoilt(tmp_path / "other", by=0.3)
    own_answers(other)
    other.publish(tmp_path / "elsewhere")
    code = f"""import sys
from serving.__main__ import main
arguments = sys.argv[1:]
arguments[arguments.index("--repository") + 1] = {str(tmp_path / "elsewhere")!r}
sys.exit(main(["serve", *arguments]))
"""
    verdict = rehearse_with(code, candidate)
    assert not verdict.passed
    assert "the server answers otherwise: probabilities are" in verdict.detail


def test_a_server_whose_digits_are_not_its_probabilities_refuses_the_candidate(candidate: Candidate) -> None:
    """Right numbers, but a label that is not the most probable one."""
    code = f"""import json
from concurrent import futures
import grpc, numpy
from protos.digits.v1.digits_pb2 import ClassifyRequest, ClassifyResponse
known = numpy.load({str(candidate.folder / "known_answers.npz")!r})["probabilities"]
answer = ClassifyResponse(digits=[0] * len(known), probabilities=known.ravel().tolist(), model_version=1)
handler = grpc.unary_unary_rpc_method_handler(
    lambda request, context: answer, ClassifyRequest.FromString, ClassifyResponse.SerializeToString
)
server = grpc.server(futures.ThreadPoolExecutor())
server.add_registered_method_handlers("digits.v1.DigitService", {{"Classify": handler}})
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(json.dumps({{"address": f"127.0.0.1:{{port}}"}}), flush=True)
server.wait_for_termination()
"""
    verdict = rehearse_with(code, candidate)
    assert not verdict.passed
    assert "the server's digits are not the most probable ones" in verdict.detail


def own_answers(candidate: Candidate) -> None:
    """Give a spoilt candidate the known answers that it would give, so that a server takes it."""
    path = candidate.folder / "known_answers.npz"
    images = np.load(path)["images"]
    session = onnxruntime.InferenceSession(candidate.folder / "model.onnx", providers=["CPUExecutionProvider"])
    logits, probabilities = session.run(["logits", "probabilities"], {"images": images})
    np.savez(path, images=images, logits=logits, probabilities=probabilities)


def test_a_server_that_crashes_is_no_verdict_on_the_candidate(candidate: Candidate, tmp_path: Path) -> None:
    """Exit code and last words are the reason."""
    reason = failure("import sys; sys.exit('no memory left')", candidate, tmp_path)
    assert "ended with exit code 1 before it listened; the server's log ends: no memory left" in reason


def test_a_server_that_never_listens_is_no_verdict_on_the_candidate(candidate: Candidate, tmp_path: Path) -> None:
    """Within the limit; and it does not survive."""
    code = "import os, sys, time; sys.stderr.write(str(os.getpid())); time.sleep(600)"
    reason = failure(code, candidate, tmp_path, 5.0)
    assert "did not listen in time; the server's log ends: " in reason
    assert is_gone(int(reason.partition("log ends: ")[2].partition(";")[0]))


def test_a_server_that_listens_and_never_answers_is_no_verdict_on_the_candidate(
    candidate: Candidate, tmp_path: Path
) -> None:
    """An open port that nobody reads."""
    code = """import json, socket, time
listener = socket.create_server(("127.0.0.1", 0))
print(json.dumps({"address": "127.0.0.1:%d" % listener.getsockname()[1]}), flush=True)
time.sleep(600)
"""
    assert "Classify with" in failure(code, candidate, tmp_path, 5.0)


@pytest.mark.parametrize("said", ["hello", "[]", '{"port": 1}'])
def test_a_server_that_says_something_else_is_no_verdict_on_the_candidate(
    candidate: Candidate, tmp_path: Path, said: str
) -> None:
    """It is not the serving program of this contract."""
    reason = failure(f"import time; print({said!r}, flush=True); time.sleep(600)", candidate, tmp_path)
    assert "did not say where it listens" in reason


@pytest.mark.parametrize("command", [("-m", "serving_of_another_host"), ("-c", "import a_package_that_is_not_here")])
def test_where_serving_is_not_installed_the_candidate_passes_and_the_verdict_says_so(
    candidate: Candidate, command: tuple[str, str]
) -> None:
    """A host with the packages of the pipeline alone."""
    verdict = rehearse(candidate.folder, candidate.description, providers=PROVIDERS, command=(sys.executable, *command))
    assert verdict.passed
    assert verdict.skipped
    assert verdict.detail.startswith("not rehearsed: the serving program is not installed here: ")


def test_a_server_without_a_module_of_its_own_is_no_verdict_on_the_candidate(
    candidate: Candidate, tmp_path: Path
) -> None:
    """That is a fault of the program, not a package that is missing here."""
    assert "No module named 'serving.colour'" in failure("import serving.colour", candidate, tmp_path)


def test_a_server_that_cannot_be_started_is_no_verdict_on_the_candidate(candidate: Candidate, tmp_path: Path) -> None:
    """As where there are no more processes; here the candidate's files cannot even be laid out."""
    shutil.copytree(candidate.folder, tmp_path / "candidate")
    (tmp_path / "candidate" / "model.onnx").unlink()
    with pytest.raises(RehearsalError, match=r"could not be carried out: .*model\.onnx.*; the candidate is kept in "):
        rehearse(
            tmp_path / "candidate", candidate.description, providers=PROVIDERS, command=(), keep_in=tmp_path / "kept"
        )
    (kept,) = (tmp_path / "kept" / "digits").iterdir()
    assert (kept / "known_answers.npz").is_file()


def test_of_many_kept_candidates_the_oldest_goes(candidate: Candidate, tmp_path: Path) -> None:
    """A server may be broken for many nights; another model's are not touched."""
    others = [
        tmp_path / "kept" / model / f"2026010{day}T000000Z-1" for model in ("digits", "letters") for day in range(5)
    ]
    for folder in others:
        folder.mkdir(parents=True)
    with pytest.raises(RehearsalError):
        rehearse_with("import sys; sys.exit(1)", candidate, keep_in=tmp_path / "kept")
    assert [folder.exists() for folder in others] == [False] + 9 * [True]
    assert len(list((tmp_path / "kept" / "digits").iterdir())) == 5


def test_where_the_candidate_cannot_be_kept_the_cause_is_named_too(candidate: Candidate, tmp_path: Path) -> None:
    """The second fault does not hide the first."""
    (tmp_path / "kept").write_text("")
    with pytest.raises(RehearsalError, match="no memory left; the candidate cannot be kept in "):
        rehearse_with("import sys; sys.exit('no memory left')", candidate, keep_in=tmp_path / "kept")


@pytest.mark.parametrize("variable", ["grpc_proxy", "https_proxy", "http_proxy"])
def test_a_proxy_is_not_asked_for_this_machine(
    candidate: Candidate, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Docker sets one in its containers; nobody listens there."""
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    assert rehearse(candidate.folder, candidate.description, providers=PROVIDERS).passed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_the_server_ends_with_the_pipeline(candidate: Candidate, tmp_path: Path, number: signal.Signals) -> None:
    """Whatever ends it."""
    written = tmp_path / "pid"
    (tmp_path / "description").write_bytes(candidate.description.SerializeToString())
    server = f"import os, pathlib, time; pathlib.Path({str(written)!r}).write_text(str(os.getpid())); time.sleep(60)"
    pipeline = f"""import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background of a shell
from pathlib import Path
from pipeline.rehearse import rehearse
from protos.artifact.v1.manifest_pb2 import Manifest
description = Manifest.FromString(Path({str(tmp_path / "description")!r}).read_bytes())
folder = Path({str(candidate.folder)!r})
rehearse(folder, description, providers=[], command=(sys.executable, "-c", {server!r}))
"""
    with subprocess.Popen(
        (sys.executable, "-c", pipeline), cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        wait_until(lambda: written.exists() and written.read_text())
        process.send_signal(number)
        assert process.wait(60) != 0
    pid = int(written.read_text())
    wait_until(lambda: is_gone(pid))


def is_gone(pid: int) -> bool:
    """Whether no process has this id any more, or only its exit code is left."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def wait_until(is_true: Callable[[], object], within_s: float = 60.0) -> None:
    """Look again and again."""
    give_up = time.monotonic() + within_s
    while not is_true():
        assert time.monotonic() < give_up
        time.sleep(0.05)
