"""What the pieces of Envoy's configuration are written with."""

from typing import Any

Config = dict[str, Any]


def typed(name: str, kind: str, content: Config) -> Config:
    """An extension: its name, and its content with the type that stands in Envoy's reference, `kind`."""
    kind = f"type.googleapis.com/envoy.extensions.{kind}"
    return {"name": name, "typed_config": {"@type": kind, **content}}


def duration(seconds: float) -> str:
    """As protobuf's JSON writes it."""
    return f"{seconds:g}s"
