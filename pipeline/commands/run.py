"""`python -m pipeline run`: the flow, once."""

import argparse
import json
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import get_args

from rich.console import Console

from pipeline import summary
from pipeline.commands.options import add_repository
from pipeline.config import preset_names
from pipeline.device import DeviceName
from pipeline.progress import show_progress
from pipeline.run import Outcome, Request, run


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `run` to the command line."""
    parser = commands.add_parser(
        "run",
        help="run the flow once",
        description="Run the flow once: fetch, check, train, evaluate, export, verify, compare, rehearse, publish, "
        "confirm. A candidate that a gate refuses is not published, and that is exit code 0 too: the verdict says why.",
    )
    add_repository(parser)
    presets = f"{', '.join(preset_names())}, or the path of a TOML file"
    devices = get_args(DeviceName)
    kept = "where downloads, and pictures that were read, are kept"
    dataset = "a folder of pictures, one directory a class, or of IDX files as MNIST's, instead of MNIST (docs/data.md)"
    default = Request()
    parser.add_argument("--preset", default=default.preset, help=f"{presets} (default: %(default)s)")
    parser.add_argument(
        "--device", choices=devices, default=default.device, help="where to train (default: %(default)s)"
    )
    parser.add_argument("--dataset", type=Path, metavar="PATH", help=dataset)
    parser.add_argument("--download", action="store_true", help="try MNIST's mirrors before the embedded copy")
    parser.add_argument(
        "--cache", type=Path, default=default.cache, metavar="PATH", help=f"{kept} (default: %(default)s)"
    )
    parser.add_argument("--force", action="store_true", help="publish what a gate refuses, too; the manifest says so")
    parser.add_argument(
        "--confirm", metavar="HOST:PORT", help="a server to wait for until it answers with what was published"
    )
    parser.add_argument("--no-prefect", action="store_true", help="run the same steps without Prefect")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> None:
    request = Request(**{field.name: getattr(options, field.name) for field in fields(Request)})
    outcome = _run_plain(request) if options.no_prefect else _run_flow(request)
    if options.json:
        print(json.dumps(summary.as_json(outcome)))
    else:
        Console().print(summary.table(outcome))


def _run_plain(request: Request) -> Outcome:
    with show_progress() as on_progress:
        return run(request, on_progress=on_progress)


def _run_flow(request: Request) -> Outcome:
    # Read by Prefect when it is imported, which takes seconds: only a run under Prefect pays for it.
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    from pipeline.flow import digits

    outcome: Outcome = digits(**asdict(request))
    return outcome
