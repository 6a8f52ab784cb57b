"""The presets that come with the pipeline, a TOML file each; pipeline/config.py says what they hold."""

from pathlib import Path

PRESETS = Path(__file__).parent


def preset_names() -> list[str]:
    """The names of all presets."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))
