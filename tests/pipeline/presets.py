"""Presets for tests."""

import re
from pathlib import Path

from pipeline.config import Preset
from pipeline.presets import PRESETS

OPEN_GATES = """
[gates]
floor = 0.2
margin = 0.5
class_margin = 0.9
calibration = 0.5
latency_ratio = 100.0
"""


def with_training(preset: Preset, **changes: object) -> Preset:
    """Return the preset with some of its training changed."""
    return preset.model_copy(update={"training": preset.training.model_copy(update=changes)})


def write_preset(path: Path, **changes: str) -> Path:
    """Write the default preset with some lines changed, `key="value"` in TOML's words, and return the path.

    Its gates stand wide open, unless they are among the changes: a network that was trained for a moment on a few
    images is to pass.
    """
    text = (PRESETS / "default.toml").read_text() + OPEN_GATES
    for key, value in changes.items():
        text, count = re.subn(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.MULTILINE)
        if count != 1:
            raise AssertionError(f"default.toml has {count} lines {key} = …")
    path.write_text(text)
    return path
