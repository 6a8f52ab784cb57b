"""The model card of a version, made of its manifest alone: Markdown, with the fields that Hugging Face reads.

The headings are those of Mitchell et al., "Model Cards for Model Reporting", 2019.
"""

from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from jinja2 import Environment, StrictUndefined, Template

from pipeline.pages import markdown, tables
from pipeline.pages.page import Table
from protos.artifact.v1.manifest_pb2 import Manifest

TEMPLATE = Path(__file__).with_name("card.md.jinja")


def card(manifest: Manifest) -> str:
    """The card; it says nothing of `manifest.files`, so that it can be one of them."""
    shown = ("quality", "verdicts", "classes", "confusions", "data", "configuration")
    return _template().render(
        manifest=manifest,
        front_matter=_front_matter(manifest),
        **_sentences(manifest),
        **{name: _markdown(getattr(tables, name)(manifest)) for name in shown},
    )


@cache
def _template() -> Template:
    environment = Environment(  # noqa: S701 - Markdown is no HTML; `markdown.text` escapes
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "sort_keys": False}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


def _front_matter(manifest: Manifest) -> dict[str, Any]:
    """What Hugging Face's index reads; JSON values are YAML."""
    data, evaluation = {"name": manifest.data.name, "type": manifest.data.name}, manifest.evaluation
    metrics = [
        {"type": "accuracy", "value": evaluation.accuracy, "name": "accuracy on the test images"},
        {"type": "ece", "value": evaluation.calibration_error, "name": "expected calibration error"},
    ]
    result = {"task": {"type": "image-classification"}, "dataset": data, "metrics": metrics}
    return {
        "library_name": "onnx",
        "pipeline_tag": "image-classification",
        "license": "unknown",
        "tags": ["onnx", "onnxruntime", "image-classification"],
        "datasets": [manifest.data.name],
        "metrics": ["accuracy"],
        "model-index": [{"name": f"{manifest.model_name}, version {manifest.version}", "results": [result]}],
    }


def _sentences(manifest: Manifest) -> dict[str, str]:
    config = json_format.MessageToDict(manifest.config)
    right, count = manifest.evaluation.accuracy, manifest.evaluation.image_count
    forced = "Published by a person's decision although a gate refused it. " if manifest.forced else ""
    return {
        "name": markdown.text(manifest.model_name),
        "verdict": f"{forced}{100 * right:.2f} % of {count} test images are answered rightly.",
        "created": manifest.created.ToJsonString(),
        "parent": f"after version {manifest.parent_version}" if manifest.parent_version else "after none",
        "architecture": markdown.text(str(config.get("network", {}).get("architecture", "unknown"))),
        "preset": markdown.text(str(config.get("name", "unknown"))),
        "inputs": tables.tensors(manifest.signature.inputs) or "unknown",
        "outputs": tables.tensors(manifest.signature.outputs) or "unknown",
        "labels": ", ".join(map(markdown.text, manifest.labels)),
        "data_name": markdown.text(manifest.data.name or "unknown"),
        "source": markdown.text(manifest.data.source or "unknown"),
        "packages": ", ".join(f"{name} {version}" for name, version in sorted(manifest.packages.items())) or "unknown",
    }


def _markdown(table: Table) -> str:
    """A table in Markdown, or a word where it has no rows."""
    if not table.rows:
        return "None."
    return markdown.table(table.header, table.rows)
