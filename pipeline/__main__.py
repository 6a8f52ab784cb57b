"""The command line of the pipeline. Exit codes: 0 done, 1 it failed and says why, 2 wrong usage."""

import argparse
import json
import os
import re
import sys
from dataclasses import asdict, fields
from pathlib import Path
from typing import get_args

from rich.console import Console

from pipeline import summary
from pipeline.config import preset_names
from pipeline.device import DeviceName
from pipeline.errors import PipelineError
from pipeline.progress import show_progress
from pipeline.run import Outcome, Request, run


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    names = (field.name for field in fields(Request))
    request = Request(**{name: getattr(options, name) for name in names})
    try:
        outcome = _run_plain(request) if options.no_prefect else _run_flow(request)
    except PipelineError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("interrupted")
    except Exception as error:
        if options.debug:
            raise
        reason = str(error).strip().splitlines() or ["no reason given"]
        return _fail(f"{type(error).__name__}: {reason[0]} (--debug shows where)")
    if options.json:
        print(json.dumps(summary.as_json(outcome)))
    else:
        Console().print(summary.table(outcome))
    return 0


def _fail(reason: str) -> int:
    print(f"pipeline: {reason}", file=sys.stderr)
    return 1


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline", description="Train, prove and publish a digit classifier as an ONNX model version."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "run",
        help="run the flow once",
        description="Run the flow once: fetch, check, train, evaluate, export, verify, publish.",
    )
    default = Request()
    command.add_argument(
        "--repository",
        type=Path,
        default=default.repository,
        metavar="PATH",
        help="model repository (default: %(default)s)",
    )
    command.add_argument(
        "--model",
        type=_model_name,
        default=default.model,
        metavar="NAME",
        help="the model in it (default: %(default)s)",
    )
    command.add_argument(
        "--preset",
        default=default.preset,
        metavar="PRESET",
        help=f"{', '.join(preset_names())}, or the path of a TOML file (default: %(default)s)",
    )
    command.add_argument(
        "--device", choices=get_args(DeviceName), default=default.device, help="where to train (default: %(default)s)"
    )
    command.add_argument(
        "--dataset", type=Path, metavar="PATH", help="a folder of IDX files in the layout of MNIST, instead of MNIST"
    )
    command.add_argument("--download", action="store_true", help="try MNIST's mirrors before the embedded copy")
    command.add_argument(
        "--cache",
        type=Path,
        default=default.cache,
        metavar="PATH",
        help="where downloads are kept (default: %(default)s)",
    )
    command.add_argument("--no-prefect", action="store_true", help="run the same steps without Prefect")
    command.add_argument("--debug", action="store_true", help="show the traceback of an unexpected failure")
    command.add_argument("--json", action="store_true", help="print the summary as JSON")
    return parser


def _model_name(text: str) -> str:
    """A name that is one folder, as serving takes it."""
    if not re.fullmatch(r"[A-Za-z0-9_-]+", text):
        raise argparse.ArgumentTypeError(f"expected letters, digits, '_' and '-', came {text!r}")
    return text


if __name__ == "__main__":
    sys.exit(main())
