"""`python -m pipeline run`: the flow, once."""

import argparse
import json
import os
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from rich.console import Console

from pipeline.commands.options import add_repository
from pipeline.presets import preset_names
from pipeline.printable import for_terminal
from pipeline.request import DeviceName, Request
from pipeline.scheduling.notify import NOTIFY_URL

if TYPE_CHECKING:
    from pipeline.outcome import Outcome, Stopped

SKIPPED = 75  # the exit code where another run is in progress: EX_TEMPFAIL of sysexits.h, "try again later"
NOT_ARGUMENTS = ("notify_url",)  # a webhook's address is a secret, and a command line is not


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `run` to the command line."""
    parser = commands.add_parser(
        "run",
        help="run the flow once",
        description="Run the flow once: fetch, check, train, calibrate, evaluate, export, verify, compare, rehearse, "
        "report, publish, confirm. A candidate that a gate refuses is not published, and that is exit code 0 too: the "
        "verdict says why. A run that finds nothing changed ends as up to date. The exit code is 75 where another run "
        "is in progress.",
    )
    add_options(parser)
    parser.set_defaults(run=_run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what a run is asked for: a flag for every field of Request, and how it is run."""
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
    parser.add_argument("--again", action="store_true", help="train although nothing has changed since the last run")
    parser.add_argument(
        "--notify-url",
        "--notify",
        metavar="URL",
        help="told of a run that failed or was refused, by an HTTP POST (default: PIPELINE_NOTIFY_URL, or nobody)",
    )
    parser.add_argument("--no-prefect", action="store_true", help="run the same steps without Prefect")


def as_arguments(options: argparse.Namespace) -> list[str]:
    """The command line that asks for the same run, without secrets."""
    names = [field.name for field in fields(Request) if field.name not in NOT_ARGUMENTS]
    arguments: list[str] = []
    for name in (*names, "no_prefect", "json"):
        value, flag = getattr(options, name), f"--{name.replace('_', '-')}"
        if value is True:
            arguments.append(flag)
        elif value not in (None, False):
            arguments.append(f"{flag}={value}")
    return arguments


def as_request(options: argparse.Namespace) -> Request:
    """What the options ask for; raises ConfigError for a model that cannot be a folder's name."""
    return Request(**{field.name: getattr(options, field.name) for field in fields(Request)})


def _run(options: argparse.Namespace) -> int:
    from pipeline import summary  # brings torch, which takes seconds: other commands do without it
    from pipeline.outcome import Outcome, Stopped

    request = as_request(options)
    ended = _run_plain(request) if options.no_prefect else _run_flow(request)
    if options.json:
        print(json.dumps(summary.as_json(ended)))
    else:
        Console().print(summary.table(ended) if isinstance(ended, Outcome) else for_terminal(summary.verdict(ended)))
    return SKIPPED if isinstance(ended, Stopped) and ended.name == "Skipped" else 0


def _run_plain(request: Request) -> "Outcome | Stopped":
    from pipeline.scheduling.attempt import attempt
    from pipeline.training.progress import show_progress

    with show_progress() as on_progress:
        return attempt(request, on_progress=on_progress)


def _run_flow(request: Request) -> "Outcome | Stopped":
    # Read by Prefect when it is imported, which takes seconds: only a run under Prefect pays for it.
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")  # its 20 s fail a busy machine
    from pipeline.flow import digits

    if request.notify_url:  # a parameter would be there for everybody to see
        os.environ[NOTIFY_URL] = request.notify_url
    ended: Outcome | Stopped = digits(**asdict(replace(request, notify_url=None)))
    return ended
