"""`python -m pipeline gc`: removes old versions."""

import argparse
import json

from pipeline.commands.options import add_repository
from pipeline.versions.collect import Removed, collect, removable
from pipeline.versions.repository import ModelRepository

KEEP = 5
MEBIBYTE = 2**20


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add it to the command line."""
    parser = commands.add_parser(
        "gc",
        help="remove old versions",
        description="Remove all versions but the current one, the one before it, and the newest. A server that has a "
        "version loaded goes on with it, but cannot load it again: protect what its --versions names.",
    )
    parser.add_argument(
        "--keep", type=_count, default=KEEP, metavar="K", help="how many of the newest stay (default: %(default)s)"
    )
    parser.add_argument(
        "--protect", type=int, nargs="+", default=[], metavar="VERSION", help="versions that stay, however old"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be removed, and remove nothing")
    add_repository(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    model = ModelRepository(options.repository / options.model)
    model.demand_versions()
    choose = removable if options.dry_run else collect
    removed = choose(model, keep=options.keep, protect=options.protect)
    if options.json:
        print(json.dumps(_as_json(model, removed, is_dry_run=options.dry_run)))
    else:
        print(_sentence(model, removed, is_dry_run=options.dry_run))


def _as_json(model: ModelRepository, removed: list[Removed], *, is_dry_run: bool) -> dict[str, object]:
    gone = [each.version for each in removed]
    return {
        "removed": gone,
        "kept": [version for version in model.published() if version not in gone],
        "freed_bytes": sum(each.size_bytes for each in removed),
        "dry_run": is_dry_run,
    }


def _sentence(model: ModelRepository, removed: list[Removed], *, is_dry_run: bool) -> str:
    gone = [each.version for each in removed]
    kept = ", ".join(str(version) for version in model.published() if version not in gone)
    if not removed:
        return f"nothing to remove; kept: {kept}"
    size = sum(each.size_bytes for each in removed) / MEBIBYTE
    said = "would remove" if is_dry_run else "removed"
    return f"{said} {', '.join(map(str, gone))} ({size:.1f} MiB); kept: {kept}"


def _count(text: str) -> int:
    """A number from 1 upwards: the newest version always stays."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1 upwards, got {text!r}")
    return int(text)
