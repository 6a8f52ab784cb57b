"""The command line of the pipeline. Exit codes: 0 done, 1 failed, 2 wrong usage, 75 skipped, 130 interrupted."""

import argparse
import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the command runs: a Ctrl-C shows no traceback of an import

from pipeline import interrupt, logs
from pipeline.commands import gc, lab, run, schedule, show, versions
from pipeline.errors import PipelineError
from pipeline.printable import argument_parser, printable

PROGRAM = "digits" if Path(sys.argv[0]).name == "digits" else "python -m pipeline"  # as it was started


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(arguments)
    logs.set_up()
    try:
        return options.run(options) or 0
    except PipelineError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("interrupted", interrupt.EXIT_CODE)
    except Exception as error:
        if options.debug:
            raise
        reason = str(error).strip().splitlines() or ["no reason given"]
        return _fail(f"{type(error).__name__}: {reason[0]} ({PROGRAM} --debug shows where)")


def _parser() -> argparse.ArgumentParser:
    parser = argument_parser(
        prog=PROGRAM, description="Train, prove and publish a digit classifier as an ONNX model version."
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an unexpected failure")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run.add_command(commands)
    schedule.add_command(commands)
    versions.add_commands(commands)
    show.add_commands(commands)
    gc.add_command(commands)
    lab.add_command(commands)
    return parser


def _fail(reason: str, code: int = 1) -> int:
    print(f"pipeline: {printable(reason)}", file=sys.stderr)
    return code


def _terminate(_number: int, _frame: object) -> None:
    """End as after an error, so that temporary folders and programs that were started go too."""
    sys.exit(128 + signal.SIGTERM)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, interrupt.handle)
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(main())
