"""The page to draw on, without containers: serve it with the newest version, and open a browser. `make page`."""

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # as in serving/__main__.py

import argparse
import subprocess
import sys
import webbrowser
from pathlib import Path

from scripts.demo import ROOT, console, program, server

PAGE = ROOT / "serving" / "page"


def main(repository: str, port: int, *, opens_browser: bool) -> int:
    """Serve until Ctrl-C, SIGTERM or SIGHUP; 0 then, else the exit code of what could not start."""
    for name in (signal.SIGTERM, signal.SIGHUP):  # the server is in another process group: only we can end it
        signal.signal(name, _interrupt)
    try:
        if not (Path(repository) / "digits" / "CURRENT").exists():
            console.rule("nothing is published yet: a first version is trained")
            program("pipeline", "run", "--no-prefect", "--repository", repository)
        options = ("--transport", "envoy", "--static-files", str(PAGE), "--log-level", "warning")
        with server(repository, *options, port=port) as (address, process):
            console.print(f"draw on [bold]http://{address}[/bold]   (Ctrl-C stops it)")
            if opens_browser:
                webbrowser.open(f"http://{address}")
            process.wait()  # it ends by itself only if it fails
    except KeyboardInterrupt:
        return 0
    except subprocess.CalledProcessError as error:
        return int(error.returncode) or 1
    return 0


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser(description="Serve the page to draw on, and open a browser.")
    parser.add_argument("--repository", default="model_repository", metavar="PATH", help="default: %(default)s")
    parser.add_argument("--port", default=8080, type=int, help="default: %(default)s; 0 takes a free one")
    parser.add_argument("--no-browser", action="store_true", help="only say where it is")
    options = parser.parse_args()
    sys.exit(main(options.repository, options.port, opens_browser=not options.no_browser))
