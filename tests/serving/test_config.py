"""Settings: argument > environment > default, checked all at once, every one documented."""

import pytest

from serving.config import Settings
from serving.errors import SettingsError
from tests.programs import ROOT


def test_an_argument_wins_over_the_environment_and_that_over_the_default() -> None:
    """In this order, each setting on its own."""
    settings = Settings.read({"port": "1"}, {"SERVING_PORT": "2", "SERVING_THREADS": "3"})
    assert (settings.port, settings.threads, settings.concurrent_runs) == (1, 3, 2)


def test_an_argument_that_was_not_given_leaves_the_environment() -> None:
    """argparse gives None for it."""
    assert Settings.read({"port": None}, {"SERVING_PORT": "2"}).port == 2


def test_other_variables_of_the_environment_are_not_ours() -> None:
    """Only names with the prefix are looked at."""
    assert Settings.read({}, {"PORT": "1", "HOME": "/"}) == Settings()


def test_an_unknown_name_is_refused_with_a_hint() -> None:
    """A typing mistake is not a default."""
    with pytest.raises(SettingsError, match=r"SERVING_PROT: there is no such setting; did you mean SERVING_PORT\?"):
        Settings.read({}, {"SERVING_PROT": "1"})


@pytest.mark.parametrize("name", ["max_wait_ms", "listeners", "spin_us"])
def test_a_setting_that_was_removed_is_accepted_with_a_warning(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """For one version: a deployment that sets it still starts."""
    assert Settings.read({name: "5"}, {}) == Settings.read({}, {f"SERVING_{name.upper()}": "5"}) == Settings()
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 2
    assert all(line.startswith(f"warning: --{name.replace('_', '-')} has no effect any more: ") for line in warnings)


def test_every_fault_is_told_at_once() -> None:
    """By the name that the person used, with the value that came."""
    with pytest.raises(SettingsError) as error:
        Settings.read({"max_image_count": "0", "provider": "tpu"}, {"SERVING_PORT": "http"})
    message = str(error.value)
    assert "--max-image-count: input should be greater than or equal to 1, came '0'" in message
    assert "--provider: input should be 'auto', 'cuda' or 'cpu', came 'tpu'" in message
    assert "SERVING_PORT: input should be a valid integer" in message


def test_versions_are_words_and_numbers() -> None:
    """Blanks are forgiven, anything else is told with an example."""
    assert Settings.read({"versions": "current, previous,3"}, {}).versions == "current,previous,3"
    for wrong in ("latest", "0", "-1", "", "1,,2", "2147483648", "1.5"):
        with pytest.raises(
            SettingsError, match=r"^--versions: expected current, .* such as current,previous,3, came '"
        ):
            Settings.read({"versions": wrong}, {})


def test_settings_cannot_be_changed() -> None:
    """Built once, frozen."""
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]


def test_every_setting_is_documented() -> None:
    """docs/settings.md has the name, the variable, the default and the sentence of each."""
    table = (ROOT / "docs" / "settings.md").read_text()
    for name, field in Settings.model_fields.items():
        row = f"| `--{name.replace('_', '-')}` | `SERVING_{name.upper()}` | `{field.default}` | {field.description} |"
        assert row in table


def test_settings_that_contradict_one_another_are_refused() -> None:
    """A queue that cannot hold the largest call would refuse it for ever."""
    with pytest.raises(SettingsError, match="max_queue_images is 100, expected at least max_image_count, 1024"):
        Settings.read({"max_queue_images": "100"}, {})
