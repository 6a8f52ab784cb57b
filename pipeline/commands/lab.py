"""`python -m pipeline lab`: the course notebook, reproduced on one page."""

import argparse
import json
from pathlib import Path
from typing import get_args

from pipeline.request import DeviceName, Request

LEAST_SEEDS = 2


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `lab` to the command line."""
    parser = commands.add_parser(
        "lab",
        help="reproduce the course notebook",
        description="Reproduce the course notebook on MNIST, task by task, on one HTML page.",
    )
    output = "where the page goes, index.html, and its PNGs (default: %(default)s)"
    seeds = "how many times to train, at least 2 (default: %(default)s)"
    parser.add_argument("--output", type=Path, default=Path("runs/lab"), metavar="FOLDER", help=output)
    parser.add_argument("--seeds", type=_seed_count, default=5, metavar="N", help=seeds)
    parser.add_argument(
        "--device", choices=get_args(DeviceName), default="auto", help="where to train (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=_run)


def _seed_count(text: str) -> int:
    if not text.isdecimal() or int(text) < LEAST_SEEDS:
        raise argparse.ArgumentTypeError(
            f"expected a number of at least {LEAST_SEEDS}, which have a spread, came {text!r}"
        )
    return int(text)


def _run(options: argparse.Namespace) -> None:
    # torch and matplotlib take seconds to import, and most commands need neither.
    from pipeline.config import load_preset
    from pipeline.fetch import fetch
    from pipeline.lab.reproduce import reproduce
    from pipeline.pages.lab import lab_page
    from pipeline.pages.page import write_page
    from pipeline.training.device import choose_device
    from pipeline.training.progress import show_progress

    device = choose_device(options.device)
    # Nothing validates: the notebook trains on all 60,000 images.
    dataset = fetch(None, validation_fraction=0.0, download=False, cache=Request.cache)
    with show_progress() as on_progress:
        lab = reproduce(dataset, load_preset("lab"), seeds=range(options.seeds), device=device, on_progress=on_progress)
    page = lab_page(lab, f"python -m pipeline lab --seeds {options.seeds} --device {options.device}")
    path = write_page(page, options.output)
    if options.json:
        accuracies = [trial.evaluation.accuracy for trial in lab.trials]
        print(
            json.dumps({"page": str(path), "verdict": page.verdict, "is_good": page.is_good, "accuracies": accuracies})
        )
    else:
        print(page.verdict)
        print(path)
