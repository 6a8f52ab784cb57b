"""Presets: what to train and how, read once from a TOML file into frozen values; every fault is reported at once."""

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator
from pydantic_core import ErrorDetails

from models.architectures import ARCHITECTURES, NetworkSpec, check_spec
from models.classifier import CHANNELS
from pipeline.errors import ConfigError
from pipeline.presets import PRESETS, preset_names

Precision = Literal["float32", "tf32", "bfloat16"]
"""What a GPU multiplies: numbers in full, cut to TF32's 10 bits, or bfloat16's 8; a CPU always takes them in full."""

Numbers = Annotated[tuple[int, ...], Field(strict=False)]  # TOML knows arrays, not tuples; the numbers stay strict


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Network(_Section):
    """What is trained: an architecture, its layers, how it pools, and how its readout starts."""

    architecture: str = "pooled-readout"
    taps: Numbers = ()
    features: Numbers
    sizes: Numbers
    classes: int
    pooling: Literal["average", "max"] = "average"
    initialisation: Literal["scaled", "randn"] = "scaled"
    batch_norm: bool = False

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.architecture not in ARCHITECTURES:
            known = ", ".join(ARCHITECTURES)
            raise ValueError(f"there is no architecture {self.architecture!r}; expected one of {known}")
        check_spec(ARCHITECTURES[self.architecture], self.spec)
        if self.features[0] not in CHANNELS:
            raise ValueError(
                f"features starts with {self.features[0]}; expected 1, as images are grey, or 3, as they are coloured"
            )
        return self

    @property
    def spec(self) -> NetworkSpec:
        """The same network as `models` takes it."""
        return NetworkSpec(**self.model_dump(exclude={"architecture"}))


class Augmentation(_Section):
    """How far an image may be moved, each time that it is trained on; 0 leaves it where it is."""

    shift_pixels: float = Field(0.0, ge=0)  # along rows and along columns
    rotation_degrees: float = Field(0.0, ge=0, le=180)  # either way, around the centre
    scale: float = Field(0.0, ge=0, lt=1)  # larger or smaller by this part

    @property
    def is_none(self) -> bool:
        """Whether every image stays as it is."""
        return not (self.shift_pixels or self.rotation_degrees or self.scale)


class Training(_Section):
    """How it is trained; the same seed gives the same network."""

    optimizer: Literal["sgd", "adamw"]
    momentum: float = Field(0.0, ge=0, lt=1)  # Nesterov's, of sgd
    schedule: Literal["constant", "one-cycle"]
    learning_rate: float = Field(gt=0, le=1e6)  # with one-cycle its peak
    weight_decay: float = Field(ge=0, le=1e6)
    label_smoothing: float = Field(0.0, ge=0, lt=1)  # the share of a label that goes to all classes alike
    augmentation: Augmentation = Augmentation()
    averaging_epochs: float = Field(
        0.0, ge=0, le=1e6
    )  # how far back the average of the weights looks; 0 for the last weights
    precision: Precision = "float32"
    batch_size: int = Field(ge=1, le=2**20)
    epochs: int = Field(ge=1, le=100_000)
    seed: int = Field(ge=0, lt=2**31)  # as the manifest keeps it

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(f"momentum {self.momentum:g} is sgd's; {self.optimizer} has its own, so leave it out")
        return self


class Data(_Section):
    """Which images: MNIST, unless a folder is named; and which share of them decides or tests, and does not train.

    A relative folder begins where the preset lies. The test images are those of the data set; test_fraction is for a
    folder of pictures that has none, and validation_fraction then is a share of all pictures too.
    """

    folder: Annotated[Path | None, Field(strict=False)] = None
    validation_fraction: float = Field(0.15, gt=0, lt=1)
    test_fraction: float = Field(0.15, gt=0, lt=1)

    @model_validator(mode="after")
    def _leaves_images_to_train_on(self) -> Self:
        if self.validation_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"validation_fraction {self.validation_fraction:g} and test_fraction {self.test_fraction:g} leave "
                "nothing to train on; expected less than 1 together"
            )
        return self


class Gates(_Section):
    """What a candidate must reach on the validation images; what is not said has these defaults."""

    floor: float = Field(0.9, ge=0, le=1)  # accuracy
    margin: float = Field(0.003, gt=0, lt=1)  # of accuracy, that a candidate may lose to the champion
    class_margin: float = Field(0.02, gt=0, lt=1)  # the same for the images of one class
    confidence: float = Field(0.95, gt=0.5, lt=1)  # of the intervals, one-sided
    calibration: float = Field(0.05, gt=0, le=1)  # the largest expected calibration error
    size_ratio: float = Field(2.0, gt=0)  # how many times the champion's ONNX file
    latency_ratio: float = Field(2.0, gt=0)  # how many times the champion's time, timed in one run


class Preset(_Section):
    """A network and its training under a name: that of its file."""

    name: str
    description: str = Field(max_length=1000)
    network: Network
    training: Training
    data: Data = Data()
    gates: Gates = Gates()
    _home: Path = PrivateAttr(Path())

    @property
    def dataset(self) -> Path | None:
        """The folder of the data set, found from where the preset lies; None for MNIST."""
        return None if self.data.folder is None else self._home / self.data.folder


def load_preset(name_or_path: str | Path) -> Preset:
    """Load a preset by its name, or by the path of a TOML file; ConfigError tells every fault at once."""
    path = _find(name_or_path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:  # tomllib's error and a wrong encoding are both ValueErrors
        raise ConfigError(f"{path}: cannot be read: {error}; expected a TOML file") from error
    try:
        preset = Preset.model_validate({"name": path.stem, **content})
    except ValidationError as error:
        faults = "; ".join(_describe(fault) for fault in error.errors(include_url=False))
        raise ConfigError(f"{path}: {faults}") from error
    preset._home = path.parent  # not a field: the manifest keeps the preset as it was read, without our folders
    return preset


def _find(name_or_path: str | Path) -> Path:
    if isinstance(name_or_path, Path) or name_or_path.endswith(".toml"):
        return Path(name_or_path)
    if name_or_path not in preset_names():
        known = ", ".join(preset_names())
        raise ConfigError(f"there is no preset {name_or_path!r}; expected {known}, or the path of a .toml file")
    return PRESETS / f"{name_or_path}.toml"


def _describe(fault: ErrorDetails) -> str:
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"{key} is not a known key{_hint(fault)}"
    if fault["type"] == "missing":
        return f"{key} is missing"
    if fault["type"] == "value_error":  # a sentence of our own, or of a network
        return f"{key}: {fault['ctx']['error']}"
    return f"{key} = {fault['input']!r}: {fault['msg'].replace('Input should', 'it should')}"


def _hint(fault: ErrorDetails) -> str:
    *sections, key = fault["loc"]
    known = _SECTIONS.get(tuple(sections), Preset).model_fields
    close = difflib.get_close_matches(str(key), known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; expected {', '.join(known)}"


_SECTIONS: dict[tuple[int | str, ...], type[_Section]] = {
    ("network",): Network,
    ("training",): Training,
    ("training", "augmentation"): Augmentation,
    ("data",): Data,
    ("gates",): Gates,
}
