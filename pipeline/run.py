"""A run as one sentence: fetch, check, train, evaluate, export, verify, compare, rehearse, report, publish, confirm."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ParamSpec, Protocol, TypeVar

from pipeline.check import check
from pipeline.compare import compare
from pipeline.config import load_preset
from pipeline.confirm import confirm
from pipeline.device import DeviceName, choose_device
from pipeline.evaluate import Evaluation, evaluate
from pipeline.export import export
from pipeline.fetch import fetch
from pipeline.gates import parity
from pipeline.manifest import conclude, describe
from pipeline.pages.report import report
from pipeline.publish import Publication, publish
from pipeline.rehearse import rehearse
from pipeline.reject import reject
from pipeline.repository import KNOWN_ANSWERS, MODEL, ModelRepository
from pipeline.train import Progress, TrainingResult, train
from pipeline.verdict import Verdict, first_refusal
from pipeline.verify import Verification, verify

P = ParamSpec("P")
R = TypeVar("R")


class Step(Protocol):
    """Makes a step of a plain function; what it does beside calling it is the orchestrator's affair."""

    def __call__(self, function: Callable[P, R], /) -> Callable[P, R]:
        """The function, called as before."""


def plain(function: Callable[P, R]) -> Callable[P, R]:
    """No orchestrator: the function itself."""
    return function


@dataclass(frozen=True)
class Request:
    """What a person or a schedule asks for."""

    repository: Path = Path("model_repository")
    model: str = "digits"
    preset: str = "default"
    """The name of a preset, or the path of a TOML file."""
    device: DeviceName = "auto"
    dataset: Path | None = None
    """A folder of IDX files or of pictures; None for that of the preset."""
    download: bool = False
    """Whether to try the network before the embedded copy."""
    cache: Path = Path("runs/data")
    """Where downloads, and pictures that were read, are kept."""
    force: bool = False
    """Whether to publish what a gate refuses."""
    confirm: str | None = None
    """A server, HOST:PORT, that is to answer with what was published; None to ask nobody."""


@dataclass(frozen=True)
class Outcome:
    """What a run found and made."""

    source: str
    """Where the data came from."""
    labels: tuple[str, ...]
    """The names of its classes."""
    training: TrainingResult
    validation: Evaluation
    verification: Verification
    verdicts: tuple[Verdict, ...]
    """What every gate said."""
    test: Evaluation | None = None
    """None where a gate refused the candidate: the test images are not read for it."""
    publication: Publication | None = None
    """None where a gate refused the candidate."""
    confirmation: str | None = None
    """What the server said that was asked; None where none was."""

    @property
    def refusal(self) -> Verdict | None:
        """The gate that decided against the candidate; it is published all the same where force was asked for."""
        return first_refusal(self.verdicts)


def run(
    request: Request, step: Step = plain, *, on_progress: Callable[[Progress], None] = lambda _progress: None
) -> Outcome:
    """Train, prove and publish a model; raises PipelineError at the first step that fails.

    A candidate that a gate refuses is a finding, no failure: nothing is published, and the outcome says why.
    """
    preset = load_preset(request.preset)
    device = choose_device(request.device)
    with TemporaryDirectory(prefix="digits-") as folder:
        candidate = Path(folder)
        checkpoint = candidate / "checkpoint.pt"
        dataset = step(fetch)(
            request.dataset or preset.dataset,
            validation_fraction=preset.data.validation_fraction,
            test_fraction=preset.data.test_fraction,
            download=request.download,
            cache=request.cache,
        )
        summary = step(check)(
            dataset,
            classes=preset.network.classes,
            size=preset.network.sizes[0],
            channels=preset.network.features[0],
        )
        training = step(train)(dataset, summary, preset, device=device, checkpoint=checkpoint, on_progress=on_progress)
        validation = step(evaluate)(checkpoint, dataset, split="validation", device=device)
        model = step(export)(checkpoint, candidate / MODEL, size=summary.height)
        verification = step(verify)(model, checkpoint, dataset, known_answers=candidate / KNOWN_ANSWERS)
        description = describe(request.model, preset, dataset, summary, training, validation, verification)
        compared = step(compare)(request.repository, candidate, description, dataset, validation, preset.gates)
        rehearsed = step(rehearse)(candidate, description, device=device)
        verdicts = (*parity(verification), *compared, rehearsed)
        outcome = Outcome(dataset.source, dataset.labels, training, validation, verification, verdicts)
        if outcome.refusal and not request.force:
            step(reject)(request.repository, description, str(outcome.refusal))
            return outcome
        answers = candidate / "test_answers.npz"
        # The test images are read once, when all is decided.
        test = step(evaluate)(checkpoint, dataset, split="test", device=device, answers=answers)
        description = conclude(description, verdicts, test)
        parent = ModelRepository(request.repository / request.model).current().version
        step(report)(candidate, description, dataset, training, verification, answers=answers, parent_version=parent)
        publication = step(publish)(request.repository, candidate, description)
    said = step(confirm)(request.repository, request.model, request.confirm) if request.confirm else None
    return replace(outcome, test=test, publication=publication, confirmation=said)
