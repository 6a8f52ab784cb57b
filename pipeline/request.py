"""What is asked of a run. Free of torch, which takes seconds to import: every command of the pipeline reads it."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.errors import ConfigError

DeviceName = Literal["auto", "cpu", "cuda"]


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
