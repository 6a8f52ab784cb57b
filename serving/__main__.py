"""The command line of serving: `serve` and `classify`. Exit codes: 0 done, 1 it failed, 2 wrong usage."""

import os
import signal
import sys
from pathlib import Path

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the command runs: a Ctrl-C shows no traceback of an import

# Else grpcio's core writes lines of its own into our log, of what grpcio raises as well; read when it is loaded.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from serving import classify, serve
from serving.exit import exit_now
from serving.printable import argument_parser

PROGRAM = "digits-serve" if Path(sys.argv[0]).name == "digits-serve" else "python -m serving"  # as it was started


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = argument_parser(
        prog=PROGRAM,
        description="Serve the newest good model version over gRPC, or have images classified by a server.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve.add_command(commands)
    classify.add_command(commands)
    options = parser.parse_args(arguments)
    try:
        code = int(options.run(options))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    exit_now(main())
