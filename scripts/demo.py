"""The whole path on real data: run the flow, serve what it published, classify all test images. `make demo`."""

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # as in serving/__main__.py

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "data" / "mnist" / "t10k-images-idx3-ubyte.gz"
LABELS = ROOT / "data" / "mnist" / "t10k-labels-idx1-ubyte.gz"
BATCH = "256"
STOP_S = 30
INTERRUPTED = 128 + signal.SIGINT

console = Console()


def main(repository: str) -> int:
    """Run the demo; 0 when every step did what it should, else the exit code of the one that did not."""
    try:
        console.rule(
            "1. the flow: fetch, check, train, calibrate, evaluate, export, verify, compare, rehearse, report, publish"
        )
        run = program("pipeline", "run", "--repository", repository)
        console.rule("2. the server, on what was published")
        with server(repository) as (address, _):
            console.print(f"serving on {address}")
            console.rule("3. ten thousand test images through the Python client")
            sent = ("--labels", str(LABELS), "--batch", BATCH, "--server", address)
            answers = program("serving", "classify", str(IMAGES), *sent)
    except KeyboardInterrupt:
        return INTERRUPTED
    except subprocess.CalledProcessError as error:
        return int(error.returncode) or 1
    summarise(repository, run, answers)
    return 0


def program(*arguments: str) -> dict[str, Any]:
    """Run one of our programs with its progress on the terminal; return what it printed as JSON."""
    command = [sys.executable, "-m", *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    summary: dict[str, Any] = json.loads(done.stdout)
    return summary


@contextmanager
def server(repository: str, *options: str, port: int = 0) -> "Iterator[tuple[str, subprocess.Popen[str]]]":
    """A server, by default on a free port, drained at the end; gives its address and its process.

    It has a process group of its own: a terminal's Ctrl-C and our SIGTERM would be two signals, which end it at once.
    """
    serve = ("serving", "serve", "--port", str(port), "--json", "--repository", repository)
    command = [sys.executable, "-m", *serve, *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, process_group=0) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise subprocess.CalledProcessError(process.wait(STOP_S), command)
            yield json.loads(line)["address"], process
        finally:
            stop(process)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def stop(process: "subprocess.Popen[str]") -> None:
    """Let it drain, for as long as that may take, or until the next Ctrl-C."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
    except KeyboardInterrupt:
        process.terminate()
        raise


def summarise(repository: str, run: dict[str, Any], answers: dict[str, Any]) -> None:
    """Print what a person wants to know at the end."""
    console.rule("done")
    news = "published now" if run["is_new"] else "nothing new: the same data, config and code made it already"
    table = Table(show_header=False)
    table.add_row("model version", f"{', '.join(map(str, answers['model_versions']))} ({news})")
    table.add_row("provider", ", ".join(answers["providers"]))
    table.add_row("speed", f"{answers['images_per_second']} images/s, one caller, {BATCH} images a call")
    table.add_row("version directory", str(Path(repository) / "digits" / str(answers["model_versions"][-1])))
    table.add_row("try next", "make page: draw a digit in your browser")
    console.print(f"accuracy: {100 * answers['accuracy']:.2f} %", style="bold green")
    console.print(table)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parser = argparse.ArgumentParser(description="The whole path on real data: train, publish, serve, classify.")
    parser.add_argument("--repository", default="model_repository", metavar="PATH", help="default: %(default)s")
    sys.exit(main(parser.parse_args().repository))
