"""The run, as one sentence: fetch, check, train, evaluate, export, verify, publish."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, ParamSpec, Protocol, TypeVar

from pipeline.check import check
from pipeline.config import load_preset
from pipeline.device import DeviceName, choose_device
from pipeline.evaluate import Evaluation, evaluate
from pipeline.export import export
from pipeline.fetch import fetch
from pipeline.fingerprint import find_made, fingerprint_of
from pipeline.manifest import describe
from pipeline.publish import Publication, publish
from pipeline.repository import KNOWN_ANSWERS, MODEL, ModelRepository
from pipeline.train import Progress, TrainingResult, train
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
    """A folder of IDX files; None for that of the preset."""
    download: bool = False
    """Whether to try the network before the embedded copy."""
    cache: Path = Path("runs/data")
    """Where downloads are kept."""
    again: bool = False
    """Whether to train although nothing has changed since the last run."""
    notify_url: str | None = None
    """Who is told of a run that failed or was refused, by an HTTP POST; None for nobody."""


@dataclass(frozen=True)
class Outcome:
    """What a run found and made."""

    source: str
    """Where the data came from."""
    training: TrainingResult
    validation: Evaluation
    test: Evaluation
    verification: Verification
    publication: Publication


@dataclass(frozen=True)
class Stopped:
    """A run that ended early, and rightly so: it made no version."""

    name: Literal["Up to date", "Skipped", "Not promoted"]
    reason: str
    version: int = 0
    """The version that is there already, 0 for none."""


def run(
    request: Request, step: Step = plain, *, on_progress: Callable[[Progress], None] = lambda _progress: None
) -> Outcome | Stopped:
    """Train, prove and publish a model; raises PipelineError at the first step that refuses."""
    preset = load_preset(request.preset)
    device = choose_device(request.device)
    with TemporaryDirectory(prefix="digits-") as folder:
        candidate = Path(folder)
        checkpoint = candidate / "checkpoint.pt"
        dataset = step(fetch)(
            request.dataset or preset.data.folder,
            validation_fraction=preset.data.validation_fraction,
            download=request.download,
            cache=request.cache,
        )
        summary = step(check)(dataset, classes=preset.network.classes, size=preset.network.sizes[0])
        fingerprint = fingerprint_of(dataset.sha256, preset, device)
        made = None if request.again else find_made(ModelRepository(request.repository / request.model), fingerprint)
        if made is not None:
            return Stopped("Up to date", made.reason, made.version)
        training = step(train)(dataset, summary, preset, device=device, checkpoint=checkpoint, on_progress=on_progress)
        validation = step(evaluate)(checkpoint, dataset, split="validation", device=device)
        model = step(export)(checkpoint, candidate / MODEL, size=summary.height)
        verification = step(verify)(model, checkpoint, dataset, known_answers=candidate / KNOWN_ANSWERS)
        test = step(evaluate)(checkpoint, dataset, split="test", device=device)  # read once, when all is decided
        description = describe(request.model, preset, dataset, summary, training, validation, test, verification)
        description.fingerprint = fingerprint
        publication = step(publish)(request.repository, candidate, description)
    return Outcome(dataset.source, training, validation, test, verification, publication)
