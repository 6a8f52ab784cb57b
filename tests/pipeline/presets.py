"""Presets for tests."""

from pipeline.config import Preset


def with_training(preset: Preset, **changes: object) -> Preset:
    """Return the preset with some of its training changed."""
    return preset.model_copy(update={"training": preset.training.model_copy(update=changes)})
