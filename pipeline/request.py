"""What is asked of a run, and what comes of it."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.errors import ConfigError
from pipeline.evaluate import Evaluation
from pipeline.gates.verdict import Verdict, first_refusal
from pipeline.publish import Publication
from pipeline.train import TrainingResult
from pipeline.training.device import DeviceName
from pipeline.verify import Verification


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
    again: bool = False
    """Whether to train although nothing has changed since the last run; `force` does so too."""
    notify_url: str | None = field(default=None, repr=False)
    """Who is told of a run that failed or was refused, by an HTTP POST; None for nobody."""

    def __post_init__(self) -> None:
        """Raise ConfigError for a model that is not the name of one folder, as serving takes it."""
        if not is_model_name(self.model):
            raise ConfigError(f"model {self.model!r}: expected letters, digits, '_' and '-'")


def is_model_name(text: str) -> bool:
    """Whether a text is the name of one folder: letters, digits, '_' and '-'."""
    return re.fullmatch(r"[A-Za-z0-9_-]+", text) is not None


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


@dataclass(frozen=True)
class Stopped:
    """A run that ended early, and rightly so: it trained nothing."""

    name: Literal["Up to date", "Skipped"]
    reason: str
    version: int = 0
    """The version that is there already, 0 for none."""
