"""Compares a candidate with what the gates demand, and with the champion on the same images."""

import logging
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Timer

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from pipeline.config import Gates
from pipeline.data.dataset import Dataset
from pipeline.data.split import load_split
from pipeline.errors import ChampionError
from pipeline.evaluate import Evaluation
from pipeline.export import INPUT, OUTPUTS
from pipeline.gates import rules
from pipeline.gates.champion import Champion, find_champion
from pipeline.gates.paired import Pairs
from pipeline.gates.verdict import Verdict
from protos.artifact.layout import MODEL, sha256_of
from protos.artifact.v1.manifest_pb2 import Manifest

logger = logging.getLogger(__name__)

BATCH_SIZE = 1000
TIMED_IMAGES = 128  # as serving's largest batch
TIMED_ROUNDS = 31
LIMIT_S = 600.0  # of all validation images

Images = NDArray[np.uint8]


def compare(
    repository: Path,
    candidate: Path,
    description: Manifest,
    dataset: Dataset,
    validation: Evaluation,
    gates: Gates,
    *,
    limit_s: float = LIMIT_S,
) -> tuple[Verdict, ...]:
    """The verdict of every gate on the candidate in the folder `candidate`, which `description` describes.

    The champion is the repository's current version. Where none can be compared with, for whatever reason, the gates
    that need one are skipped and say why: a champion that is gone or broken must not keep its successors out forever.
    """
    absolute = (rules.floor(validation, gates), rules.calibration(validation, gates))
    try:
        champion = find_champion(repository, description, dataset)
        if sha256_of(champion.model) == sha256_of(candidate / MODEL):
            return *absolute, *rules.not_compared(f"the file is the same as that of version {champion.version}")
        compared = _against(champion, candidate / MODEL, description.labels, gates, limit_s)
    except ChampionError as error:
        return *absolute, *rules.not_compared(str(error))
    for verdict in compared:
        if verdict.skipped:
            logger.warning("skipped gate %s", verdict)
    return *absolute, *compared


def _against(
    champion: Champion, model: Path, labels: Sequence[str], gates: Gates, limit_s: float
) -> tuple[Verdict, ...]:
    split = load_split(champion.dataset, "validation", torch.device("cpu"))
    images, truth = split.images.numpy(), split.labels.numpy()
    if not len(images):
        raise ChampionError(f"version {champion.version} was trained on every image that could compare them")
    try:
        theirs = _session(champion.model)
        champion_right = _answers(theirs, images, limit_s) == truth
    except Exception as error:  # onnxruntime's exceptions share no base class
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ChampionError(f"version {champion.version} cannot be run: {reason}") from error
    ours = _session(model)
    right = _answers(ours, images, limit_s) == truth
    timed = np.resize(images, (TIMED_IMAGES, *images.shape[1:]))  # repeated where there are fewer
    seconds, their_seconds = _alternating_seconds((ours, theirs), timed)
    return (
        rules.champion(_pairs(right, champion_right), champion.version, gates),
        rules.classes(
            [_pairs(right[truth == label], champion_right[truth == label]) for label in range(len(labels))],
            labels,
            gates,
        ),
        rules.size(model.stat().st_size, champion.model.stat().st_size, gates),
        rules.latency(seconds, their_seconds, len(timed), gates),
    )


def _session(model: Path) -> onnxruntime.InferenceSession:
    """One thread, no waiting by spinning: the times of two sessions must not depend on each other."""
    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.read_bytes(), options, providers=["CPUExecutionProvider"])


def _answers(session: onnxruntime.InferenceSession, images: Images, limit_s: float) -> NDArray[np.int64]:
    """The index of the most probable label of each image, int64 (image,); raises TimeoutError after `limit_s`."""
    options = onnxruntime.RunOptions()
    timer = Timer(limit_s, setattr, (options, "terminate", True))  # a graph may loop
    timer.daemon = True
    timer.start()
    batches = (images[start : start + BATCH_SIZE] for start in range(0, len(images), BATCH_SIZE))
    try:
        return np.concatenate(
            [session.run([OUTPUTS[0]], {INPUT: batch}, options)[0].argmax(axis=1) for batch in batches]
        )
    except Exception as error:
        if options.terminate:
            raise TimeoutError(f"{len(images)} images take longer than {limit_s:g} s") from error
        raise
    finally:
        timer.cancel()


def _pairs(right: NDArray[np.bool_], champion_right: NDArray[np.bool_]) -> Pairs:
    return Pairs(
        len(right), regressions=int((champion_right & ~right).sum()), improvements=int((right & ~champion_right).sum())
    )


def _alternating_seconds(sessions: Sequence[onnxruntime.InferenceSession], images: Images) -> list[float]:
    """The median seconds of a run of `images`, of one thread, for each session; they take turns: clocks change."""
    taken: list[list[float]] = [[] for _ in sessions]
    for _ in range(1 + TIMED_ROUNDS):
        for session, seconds in zip(sessions, taken, strict=True):
            began = time.thread_time()  # of the processor: what else runs on the machine does not count
            session.run(list(OUTPUTS), {INPUT: images})
            seconds.append(time.thread_time() - began)
    return [statistics.median(seconds[1:]) for seconds in taken]  # the first run of each warms it up
