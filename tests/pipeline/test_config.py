"""Presets are read strictly, and every fault of one is told at once."""

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from models.architectures import NetworkSpec
from pipeline.config import load_preset
from pipeline.errors import ConfigError
from pipeline.presets import PRESETS, preset_names

VALID = """
description = "for a test"
[network]
taps = [1]
features = [1, 2]
sizes = [4, 2]
classes = 3
pooling = "max"
initialisation = "scaled"
[training]
optimizer = "adamw"
schedule = "one-cycle"
learning_rate = 0.1
weight_decay = 0
batch_size = 8
epochs = 2
seed = 1
"""


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_that_comes_with_the_program_loads(name: str) -> None:
    """Each shipped preset loads under its name and says in a comment and a sentence what it is for."""
    preset = load_preset(name)
    assert preset.name == name
    assert preset.description
    comment, _, _ = (PRESETS / f"{name}.toml").read_text().partition("description = ")
    assert all(line.startswith("# ") for line in comment.splitlines())
    assert len(comment) > len("# ")


def test_default_and_lab_train_the_same_network() -> None:
    """The lab's preset and the default differ in the start and the training, not in the layers."""
    assert preset_names() == ["accurate", "default", "lab"]
    lab, default = (load_preset(name).network for name in ("lab", "default"))
    assert lab.spec == replace(default.spec, initialisation="randn")


def test_what_a_preset_leaves_out_changes_nothing(tmp_path: Path) -> None:
    """Without a word of them there is no batch norm, no momentum, no smoothing, no movement and no averaging."""
    preset = load_preset(_write(tmp_path, VALID))
    assert preset.network.architecture == "pooled-readout"
    assert not preset.network.batch_norm
    training = preset.training
    assert (training.momentum, training.label_smoothing, training.averaging_epochs) == (0, 0, 0)
    assert training.augmentation.is_none


def test_a_perceptron_needs_neither_taps_nor_pooling(tmp_path: Path) -> None:
    """Another architecture takes of [network] what it needs."""
    layers = VALID[VALID.index("taps") : VALID.index("[training]")]
    text = VALID.replace(
        layers, 'architecture = "multilayer-perceptron"\nfeatures = [1, 9]\nsizes = [4]\nclasses = 3\n'
    )
    assert load_preset(_write(tmp_path, text)).network.spec == NetworkSpec((1, 9), (4,), 3)


def test_lab_preset_is_the_notebooks_recipe() -> None:
    """The lab preset holds the numbers of Task 5."""
    training = load_preset("lab").training
    assert (training.optimizer, training.schedule) == ("sgd", "constant")
    assert (training.learning_rate, training.batch_size, training.epochs) == (0.01, 128, 5)


@pytest.mark.parametrize("kind", [str, Path], ids=["as text", "as a path"])
def test_a_file_of_ones_own_loads_under_the_files_name(tmp_path: Path, kind: type[str | Path]) -> None:
    """A path to a TOML file gives a preset with the name of the file."""
    preset = load_preset(kind(_write(tmp_path, VALID)))
    assert preset.name == "mine"
    assert preset.network.spec.sizes == (4, 2)


@pytest.mark.parametrize("key", ["epochs", "seed"])
def test_a_preset_cannot_be_changed(key: str) -> None:
    """A preset is a frozen value."""
    with pytest.raises(ValidationError, match="frozen"):
        setattr(load_preset("lab").training, key, 6)


def test_an_unknown_preset_is_told_the_known_ones() -> None:
    """A name that is no preset lists those that are."""
    with pytest.raises(
        ConfigError, match=r"no preset 'labs'; expected accurate, default, lab, or the path of a \.toml file"
    ):
        load_preset("labs")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param("epochs = 2", "epochs = 0", "training.epochs = 0: it should be greater than", id="too few epochs"),
        pytest.param("epochs = 2", 'epochs = "2"', "training.epochs = '2': it should be a valid integer", id="text"),
        pytest.param("epochs = 2", "epochs = true", "training.epochs = True: it should be a valid int", id="a truth"),
        pytest.param("epochs = 2", "", "training.epochs is missing", id="missing key"),
        pytest.param("seed = 1", "seed = -1", "training.seed = -1", id="negative seed"),
        pytest.param("= 0.1", "= nan", "training.learning_rate = nan: it should be a finite", id="not a number"),
        pytest.param("= 0.1", "= -0.1", "training.learning_rate = -0.1: it should be greater", id="negative rate"),
        pytest.param('"adamw"', '"adam"', "training.optimizer = 'adam': it should be 'sgd' or 'adamw'", id="no choice"),
        pytest.param("epochs = 2", "epoch = 2", "training.epoch is not a known key; did you mean epochs", id="typo"),
        pytest.param("seed = 1", "seed = 1\ncolour = 1", "training.colour is not a known key; expected", id="odd key"),
        pytest.param("[training]", "[trainings]", "trainings is not a known key; did you mean training", id="section"),
        pytest.param("taps = [1]", "taps = [1.5]", r"network.taps.0 = 1.5: it should be a valid int", id="half a tap"),
        pytest.param("taps = [1]", "taps = [1, 1]", "network: features must have one", id="lengths do not fit"),
        pytest.param("[4, 2]", "[4, 3]", "network: sizes must each divide the one before", id="sizes do not divide"),
        pytest.param("[1, 2]", "[2, 2]", "network: features starts with 2; expected 1", id="two channels"),
        pytest.param("taps = [1]", "", "network: taps must have one entry for each layer", id="no taps"),
        pytest.param(
            "taps = [1]", 'taps = [1]\narchitecture = "vgg"', "no architecture 'vgg'; expected", id="no module"
        ),
        pytest.param("taps = [1]", "taps = [1]\nbatch_norm = 1", "network.batch_norm = 1: it should be", id="no truth"),
        pytest.param(
            "seed = 1", "seed = 1\nmomentum = 0.9", "momentum 0.9 is sgd's; adamw has its", id="adamw's momentum"
        ),
        pytest.param('"adamw"', '"sgd"\nmomentum = 1.0', "training.momentum = 1.0: it should be less", id="endless"),
        pytest.param("seed = 1", "seed = 1\nlabel_smoothing = 1.0", "label_smoothing = 1.0: it should", id="no labels"),
        pytest.param("seed = 1", "seed = 1\naveraging_epochs = -1.0", "averaging_epochs = -1.0: it should", id="ahead"),
        pytest.param(
            "seed = 1",
            "seed = 1\n[training.augmentation]\nrotation = 5.0",
            "training.augmentation.rotation is not a known key; did you mean rotation_degrees",
            id="typo in augmentation",
        ),
        pytest.param(
            "seed = 1",
            "seed = 1\naugmentation = {scale = 1.0}",
            "training.augmentation.scale = 1.0: it should be less",
            id="scaled to nothing",
        ),
        pytest.param("taps = [1]", "taps = [1", "cannot be read: ", id="no TOML"),
        pytest.param(
            "[training]",
            "[data]\nvalidation_fraction = 0.5\ntest_fraction = 0.5\n[training]",
            "data: validation_fraction 0.5 and test_fraction 0.5 leave nothing to train on",
            id="nothing to train on",
        ),
    ],
)
def test_a_fault_is_named_with_key_value_and_expectation(tmp_path: Path, old: str, new: str, message: str) -> None:
    """A fault names the file, the key, the value and what was expected."""
    assert VALID.count(old) == 1
    path = _write(tmp_path, VALID.replace(old, new))
    with pytest.raises(ConfigError, match=message) as caught:
        load_preset(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_network_may_take_colours(tmp_path: Path) -> None:
    """Three features go in where images have three channels."""
    assert load_preset(_write(tmp_path, VALID.replace("[1, 2]", "[3, 2]"))).network.features == (3, 2)


@pytest.mark.parametrize(
    ("named", "found"),
    [("pets", "presets/pets"), ("../pets", "presets/../pets"), ("/data/pets", "/data/pets")],
    ids=["beside the preset", "above it", "anywhere"],
)
def test_a_data_sets_folder_begins_where_the_preset_lies(tmp_path: Path, named: str, found: str) -> None:
    """Not where somebody happens to stand; and the preset itself keeps what it says, whatever machine reads it."""
    (tmp_path / "presets").mkdir()
    path = _write(tmp_path / "presets", f'{VALID}\n[data]\nfolder = "{named}"\n')
    preset = load_preset(path)
    assert preset.dataset == tmp_path / found
    assert preset.model_dump(mode="json")["data"]["folder"] == named


def test_without_a_folder_the_data_set_is_mnist(tmp_path: Path) -> None:
    """None stands for it."""
    assert load_preset(_write(tmp_path, VALID)).dataset is None


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    """Three faults in two sections come in one message."""
    text = VALID.replace("epochs = 2", "epochs = 0").replace("seed = 1", "sead = 1").replace("classes = 3", "")
    with pytest.raises(ConfigError) as caught:
        load_preset(_write(tmp_path, text))
    for fault in ("training.epochs = 0", "training.sead is not a known key", "network.classes is missing"):
        assert fault in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A path to nothing is a ConfigError that names it."""
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read"):
        load_preset(tmp_path / "none.toml")
