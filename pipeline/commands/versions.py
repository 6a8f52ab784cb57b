"""`python -m pipeline versions`, `promote N` and `rollback`: what is published, and which of it is served."""

import argparse
import json
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.commands.options import add_repository
from pipeline.errors import PublishError
from pipeline.printable import for_terminal
from pipeline.versions.promote import promote, rollback
from pipeline.versions.repository import ModelRepository
from protos.artifact.v1.manifest_pb2 import Current


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add all three to the command line."""
    listing = commands.add_parser("versions", help="list the versions", description="List every version of a model.")
    add_repository(listing)
    listing.set_defaults(run=_list)
    promoting = commands.add_parser(
        "promote", help="serve a version", description="Make a version the one that is served; nothing is copied."
    )
    promoting.add_argument("version", type=int, metavar="VERSION", help="its number")
    add_repository(promoting)
    promoting.set_defaults(run=_promote)
    back = commands.add_parser(
        "rollback",
        help="serve the version before",
        description="Make the version before the current one current again.",
    )
    add_repository(back)
    back.set_defaults(run=_rollback)


def _list(options: argparse.Namespace) -> None:
    rows = _rows(_model(options))
    if options.json:
        print(json.dumps(rows))
        return
    table = Table("version", "", "created", "accuracy", "preset", "device")
    for row in rows:
        mark = "current" if row["is_current"] else ""
        if "fault" in row:
            table.add_row(str(row["version"]), mark, for_terminal(row["fault"]))
        else:
            told = (row["created"], f"{100 * row['accuracy']:.2f} %", row["preset"], row["device"])
            table.add_row(str(row["version"]), mark, *(for_terminal(text) for text in told))
    Console().print(table if rows else for_terminal(f"no version yet in {_model(options).directory}"))


def _promote(options: argparse.Namespace) -> None:
    _tell(promote(_model(options), options.version), options)


def _rollback(options: argparse.Namespace) -> None:
    _tell(rollback(_model(options)), options)


def _model(options: argparse.Namespace) -> ModelRepository:
    return ModelRepository(options.repository / options.model)


def _rows(model: ModelRepository) -> list[dict[str, Any]]:
    current = model.current().version
    return [
        {"version": version, "is_current": version == current, **_told(model, version)} for version in model.versions()
    ]


def _told(model: ModelRepository, version: int) -> dict[str, Any]:
    """What the manifest says, or why it cannot be read."""
    try:
        manifest = model.manifest(version)
    except PublishError as error:
        return {"fault": str(error)}
    return {
        "created": manifest.created.ToJsonString(),
        "accuracy": manifest.evaluation.accuracy,
        "preset": manifest.config.fields["name"].string_value,
        "device": manifest.device,
    }


def _tell(current: Current, options: argparse.Namespace) -> None:
    if options.json:
        print(json.dumps({"version": current.version, "previous": current.previous, "generation": current.generation}))
    else:
        print(f"version {current.version} is current (before: {current.previous or 'none'})")
