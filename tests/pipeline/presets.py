"""Presets for tests."""

import re
from pathlib import Path

from pipeline.config import PRESETS, Preset


def with_training(preset: Preset, **changes: object) -> Preset:
    """Return the preset with some of its training changed."""
    return preset.model_copy(update={"training": preset.training.model_copy(update=changes)})


def write_preset(path: Path, **changes: str) -> Path:
    """Write the default preset with some lines changed, `key="value"` in TOML's words, and return the path.

    Its floor is low: a network that was trained for a moment on a few images is to pass, unless `floor` is given.
    """
    text = (PRESETS / "default.toml").read_text() + "\n[gates]\nfloor = 0.5\n"
    for key, value in changes.items():
        text, count = re.subn(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.MULTILINE)
        if count != 1:
            raise AssertionError(f"default.toml has {count} lines {key} = …")
    path.write_text(text)
    return path
