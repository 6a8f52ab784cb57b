"""A run as one sentence: from fetch, check, train, calibrate and evaluate to report, publish and confirm."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ParamSpec, Protocol, TypeVar

from pipeline import interrupt
from pipeline.calibrate import calibrate
from pipeline.check import check
from pipeline.check_network import check_network
from pipeline.compare import compare
from pipeline.config import load_preset
from pipeline.confirm import confirm
from pipeline.evaluate import evaluate
from pipeline.export import export
from pipeline.fetch import fetch
from pipeline.gates.reject import reject
from pipeline.gates.rules import parity
from pipeline.outcome import Outcome, Stopped
from pipeline.pages.report import report
from pipeline.publish import find_same, publish
from pipeline.rehearse import rehearse
from pipeline.request import Request
from pipeline.train import Progress, train
from pipeline.training.device import choose_device
from pipeline.verify import verify
from pipeline.versions.fingerprint import Made, find_made, fingerprint_of
from pipeline.versions.manifest import conclude, describe, recorded_test
from pipeline.versions.provenance import sources_sha256
from pipeline.versions.repository import ModelRepository
from protos.artifact.layout import FEATURES, KNOWN_ANSWERS, MODEL

P = ParamSpec("P")
R = TypeVar("R")


class Step(Protocol):
    """Makes a step of a plain function; what it does beside calling it is the orchestrator's affair."""

    def __call__(self, function: Callable[P, R], /) -> Callable[P, R]:
        """The function, called as before."""


def plain(function: Callable[P, R]) -> Callable[P, R]:
    """No orchestrator: the function itself."""
    return function


def run(
    request: Request, step: Step = plain, *, on_progress: Callable[[Progress], None] = lambda _progress: None
) -> Outcome | Stopped:
    """Train, prove and publish a model; raises PipelineError at the first step that fails.

    A candidate that a gate refuses is a finding, no failure: nothing is published, and the outcome says why. Where the
    same data, config and code made a version already, or were refused, there is nothing to do.
    """
    preset = load_preset(request.preset)
    network = preset.network
    device = choose_device(request.device)
    versions = ModelRepository(request.repository / request.model)
    with TemporaryDirectory(prefix="digits-") as folder:
        candidate = Path(folder)
        checkpoint, answers = candidate / "checkpoint.pt", candidate / "test_answers.npz"
        dataset = step(fetch)(
            request.dataset or preset.dataset,
            validation_fraction=preset.data.validation_fraction,
            test_fraction=preset.data.test_fraction,
            download=request.download,
            cache=request.cache,
        )
        summary = step(check)(dataset, classes=network.classes, size=network.sizes[0], channels=network.features[0])
        sources = sources_sha256()  # now: who edits them during the training changes the next run
        fingerprint = fingerprint_of(dataset.sha256, preset, device, sources)
        if not (request.again or request.force) and (made := find_made(versions, fingerprint)):
            return _up_to_date(request, made, step)
        versions.check()
        step(check_network)(preset, summary, device=device)
        training = step(train)(dataset, summary, preset, device=device, checkpoint=checkpoint, on_progress=on_progress)
        temperature = step(calibrate)(checkpoint, dataset, device=device)
        validation = step(evaluate)(checkpoint, dataset, split="validation", device=device)
        features, known_answers = candidate / FEATURES, candidate / KNOWN_ANSWERS
        model = step(export)(checkpoint, candidate / MODEL, size=summary.height, features=features)
        verification = step(verify)(model, checkpoint, dataset, known_answers=known_answers, features=features)
        known = (request.model, preset, dataset, summary, training, validation, verification)
        description = describe(*known, fingerprint=fingerprint, sources=sources, temperature=temperature)
        compared = step(compare)(request.repository, candidate, description, dataset, validation, preset.gates)
        keep_in = request.cache / "candidates"
        rehearsed = step(rehearse)(candidate, description, providers=verification.providers, keep_in=keep_in)
        verdicts = (*parity(verification), *compared, rehearsed)
        outcome = Outcome(dataset.source, dataset.labels, training, validation, verification, verdicts)
        if outcome.refusal and not request.force:
            step(reject)(request.repository, description, verdicts)
            return outcome
        # The test images are read when all is decided, and once for a version: not for the same bytes again.
        same = find_same(versions, candidate, description)
        if same is None:
            loss = validation.train_loss
            test = step(evaluate)(checkpoint, dataset, split="test", device=device, answers=answers, train_loss=loss)
        else:
            test = recorded_test(versions.manifest(same))
        description = conclude(description, verdicts, test)
        if same is None:
            given = (candidate, description, dataset, training, verification)
            parent, champion = versions.current().version, versions.current_manifest()
            step(report)(*given, answers=answers, parent_version=parent, champion=champion)
        interrupt.check()
        publication = step(publish)(request.repository, candidate, description)
    return replace(outcome, test=test, publication=publication, confirmation=_confirmed(request, step))


def _up_to_date(request: Request, made: Made, step: Step) -> Stopped:
    """There is nothing to train; a server that is to answer with the version is asked all the same."""
    said = _confirmed(request, step) if made.version else None
    return Stopped("Up to date", f"{made.reason}; {said}" if said else made.reason, made.version)


def _confirmed(request: Request, step: Step) -> str | None:
    return step(confirm)(request.repository, request.model, request.confirm) if request.confirm else None
