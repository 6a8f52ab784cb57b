"""Lets the serving program itself load a candidate and answer its known answers, before anybody else is to."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from pipeline.errors import NoAnswerError, PublishError, RehearsalError
from pipeline.gates.verdict import Verdict
from pipeline.proof.providers import CUDA
from pipeline.publish import publish
from pipeline.server.stub import Stub
from pipeline.verify import PROBABILITIES_TOLERANCE
from protos.artifact.layout import KNOWN_ANSWERS
from protos.artifact.v1.manifest_pb2 import Manifest

ROOT = Path(__file__).parents[1]  # where `serving` lies beside `pipeline`
SERVE = (sys.executable, "-m", "serving", "serve")
WITHIN_S = 60.0
LOOK_S = 0.05
KEPT = 5  # candidates of a model: the server may be broken for many nights
NOT_INSTALLED = re.compile(r"No module named '?([^'.\s]+)")
OURS = ("serving", "protos")  # what is missing there is missing in the program, not on the machine


REJECTED = re.compile(r"rejected version 1: (.*); no version is served")


class _RejectedError(Exception):
    """The server did with the candidate what it should not; the message says what."""


class _NotInstalledError(Exception):
    """There is no server to rehearse with; the message says what is missing."""


def rehearse(
    candidate: Path,
    description: Manifest,
    *,
    providers: Sequence[str],
    command: Sequence[str] = SERVE,
    within_s: float = WITHIN_S,
    keep_in: Path = Path("runs/candidates"),
) -> Verdict:
    """Serve the candidate from a repository of its own, as version 1, and compare what comes over gRPC.

    It runs on CUDA where that is among `providers`, the execution providers on which the file was verified. A server
    that rejects the candidate, or answers otherwise, rejects it. Where what the serving program needs is not installed,
    the rehearsal is skipped: every server replays the known answers before it swaps.

    Raises RehearsalError where the rehearsal cannot be carried out, since the server does not start or answer in
    time: that says nothing of the candidate, which is kept below `keep_in`.
    """
    began = time.monotonic()
    try:
        detail = _rehearse_in_folder(candidate, description, providers, command, began + within_s)
    except _NotInstalledError as error:
        reason = f"not rehearsed: the serving program is not installed here: {error}"
        return Verdict("rehearsal", True, reason, skipped=True)
    except _RejectedError as error:
        return Verdict("rehearsal", False, str(error))
    except (RehearsalError, PublishError, OSError) as error:
        raise RehearsalError(
            f"the rehearsal could not be carried out: {error}; {_keep(candidate, keep_in, description.model_name)}"
        ) from error
    return Verdict("rehearsal", True, f"{detail}, {time.monotonic() - began:.1f} s after its start")


def _keep(candidate: Path, folder: Path, model_name: str) -> str:
    """Copy a candidate that nothing is known of, in the place of the oldest; says where it is, or why it is lost."""
    kept = folder / model_name / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.getpid()}"
    try:
        shutil.copytree(candidate, kept)
        for old in sorted(kept.parent.iterdir())[:-KEPT]:
            shutil.rmtree(old)
    except OSError as error:
        return f"the candidate cannot be kept in {kept}: {error}"
    return f"the candidate is kept in {kept}; correct the cause and run again"


def _rehearse_in_folder(
    candidate: Path, description: Manifest, providers: Sequence[str], command: Sequence[str], give_up: float
) -> str:
    with TemporaryDirectory(prefix="rehearsal-") as name:
        folder = Path(name)
        publish(folder / "repository", candidate, description)
        arguments = ("--repository", str(folder / "repository"), "--model", description.model_name)
        provider = "cuda" if CUDA in providers else "cpu"
        full = (*command, "--json", "--host", "127.0.0.1", "--port", "0", "--provider", provider, *arguments)
        try:
            return _rehearse(full, folder, candidate / KNOWN_ANSWERS, give_up)
        except (RehearsalError, NoAnswerError) as error:
            if found := REJECTED.search(_log(folder)):
                raise _RejectedError(f"the server rejects the candidate: {found[1]}") from error
            raise RehearsalError(f"{error}; the server's log ends: {_last_line(folder)}") from error


def _rehearse(command: Sequence[str], folder: Path, known_answers: Path, give_up: float) -> str:
    with np.load(known_answers, allow_pickle=False) as known:
        images, expected = known["images"], known["probabilities"]
    with _server(command, folder) as process, Stub(_address(process, folder, give_up)) as stub:
        answer = stub.classify(images, give_up - time.monotonic())
    got = np.array(answer.probabilities, np.float32)
    if answer.model_version != 1 or got.size != expected.size:
        raise _RejectedError(f"the server answered with version {answer.model_version} and {got.size} probabilities")
    got = got.reshape(expected.shape)
    if list(answer.digits) != got.argmax(axis=1).tolist():
        raise _RejectedError("the server's digits are not the most probable ones of its own probabilities")
    distance = float(np.abs(got - expected).max())
    if not distance <= PROBABILITIES_TOLERANCE:  # also true of NaN
        raise _RejectedError(
            f"the server answers otherwise: probabilities are {distance:.1e} away from the known answers, expected at "
            f"most {PROBABILITIES_TOLERANCE:.0e}"
        )
    return f"the server answered {len(images)} known answers on {answer.provider}, within {distance:.1e}"


@contextmanager
def _server(command: Sequence[str], folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """The server, with its output in the files `said` and `log`; killed at the end, and also if this process is."""
    # What a server here is told by its environment, such as ports, is not meant for this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SERVING_")}
    leash = (sys.executable, "-m", "pipeline.server.leash", str(os.getpid()))
    with (folder / "said").open("wb") as said, (folder / "log").open("wb") as log:
        process = subprocess.Popen((*leash, *command), cwd=ROOT, env=environment, stdout=said, stderr=log)  # noqa: S603
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def _address(process: "subprocess.Popen[bytes]", folder: Path, give_up: float) -> str:
    """Wait for the one line that says where the server listens."""
    while time.monotonic() < give_up:
        code = process.poll()
        line, is_whole, _ = (folder / "said").read_bytes().partition(b"\n")
        if is_whole:
            return _parse(line)
        if code is not None:
            missing = NOT_INSTALLED.search(last := _last_line(folder))
            if missing and missing[1] not in OURS:
                raise _NotInstalledError(last)
            raise RehearsalError(f"the server ended with exit code {code} before it listened")
        time.sleep(LOOK_S)
    raise RehearsalError("the server did not listen in time")


def _parse(line: bytes) -> str:
    try:
        return str(json.loads(line)["address"])
    except (ValueError, KeyError, TypeError) as error:
        raise RehearsalError(f"the server did not say where it listens, but {line[:200]!r}") from error


def _last_line(folder: Path) -> str:
    lines = _log(folder).strip().splitlines()
    return lines[-1].strip() if lines else "(it is empty)"


def _log(folder: Path) -> str:
    log = folder / "log"
    return log.read_text(errors="replace") if log.exists() else ""
