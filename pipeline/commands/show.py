"""`python -m pipeline show N` and `diff N M`: what a version is, and what two versions differ in."""

import argparse
import json

from rich.console import Console
from rich.table import Table as Shown

from pipeline.commands.options import add_repository
from pipeline.errors import PublishError
from pipeline.pages import tables
from pipeline.pages.page import INDEX, Table
from pipeline.printable import for_terminal, printable
from pipeline.versions.card import card
from pipeline.versions.difference import differences
from pipeline.versions.history import to_json
from pipeline.versions.repository import REPORT, ModelRepository
from protos.artifact.v1.manifest_pb2 import Manifest


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add both to the command line."""
    showing = commands.add_parser(
        "show", help="tell all of a version", description="Tell all that the manifest of a version says."
    )
    showing.add_argument(
        "version", type=int, nargs="?", metavar="VERSION", help="its number (default: the current one)"
    )
    showing.add_argument("--card", action="store_true", help="print its model card, made anew from the manifest")
    add_repository(showing)
    showing.set_defaults(run=_show)
    differing = commands.add_parser(
        "diff",
        help="compare two versions",
        description="Tell what two versions differ in: config, data, quality, code.",
    )
    differing.add_argument("before", type=int, metavar="VERSION", help="the number of one")
    differing.add_argument("after", type=int, metavar="VERSION", help="the number of the other")
    add_repository(differing)
    differing.set_defaults(run=_diff)


def _show(options: argparse.Namespace) -> None:
    model = ModelRepository(options.repository / options.model)
    version = model.current().version if options.version is None else options.version
    if not version and options.version is None:
        raise PublishError(f"{model.directory}: has no current version; is it the right repository?")
    manifest = _manifest(model, version)
    if options.card:
        print("\n".join(map(printable, card(manifest).split("\n"))), end="")
    elif options.json:
        print(to_json(manifest).decode(), end="")
    else:
        _print(model, manifest)


def _diff(options: argparse.Namespace) -> None:
    model = ModelRepository(options.repository / options.model)
    found = differences(_manifest(model, options.before), _manifest(model, options.after))
    if options.json:
        print(json.dumps({difference.name: [difference.before, difference.after] for difference in found}))
        return
    if not found:
        print(f"versions {options.before} and {options.after} are alike in config, data, quality and code")
        return
    rows = [(each.name, tables.plain(each.before), tables.plain(each.after)) for each in found]
    _print_table(Console(), Table(("", f"version {options.before}", f"version {options.after}"), rows))


def _manifest(model: ModelRepository, version: int) -> Manifest:
    if version not in model.versions():
        known = ", ".join(map(str, model.versions())) or "none"
        raise PublishError(f"{model.directory}: has no version {version}; there are: {known}")
    return model.manifest(version)


def _print(model: ModelRepository, manifest: Manifest) -> None:
    console = Console()
    _print_table(console, _identity(model, manifest))
    shown = (tables.quality, tables.classes, tables.verdicts, tables.data, tables.configuration, tables.code)
    for table in (*(tell(manifest) for tell in shown), _files(manifest)):
        if table.rows:
            _print_table(console, table)


def _identity(model: ModelRepository, manifest: Manifest) -> Table:
    current, page = model.current(), model.path(manifest.version) / REPORT / INDEX
    roles = {current.version: "current", current.previous: "the one before the current one"}
    rows = [
        ("state", roles.get(manifest.version, "not current")),
        ("created", manifest.created.ToJsonString()),
        ("parent", str(manifest.parent_version or "none")),
        ("forced", "yes: a person published it although a gate refused it" if manifest.forced else "no"),
        ("takes and gives", tables.tensors([*manifest.signature.inputs, *manifest.signature.outputs])),
        ("labels", ", ".join(manifest.labels)),
        ("known answers", f"{manifest.known_answers.image_count} images"),
        ("report", str(page) if page.is_file() else "none"),
    ]
    return Table((f"{manifest.model_name}, version {manifest.version}", ""), rows)


def _files(manifest: Manifest) -> Table:
    rows = [(file.path, str(file.size_bytes), file.sha256) for file in manifest.files]
    return Table(("file", "bytes", "sha256"), rows)


def _print_table(console: Console, table: Table) -> None:
    shown = Shown(*(for_terminal(text) for text in table.header))
    for row in table.rows:
        shown.add_row(*(for_terminal(text) for text in row))
    console.print(shown)
