"""What every command of the pipeline takes."""

import argparse
from pathlib import Path

from pipeline.request import Request, is_model_name

REPOSITORY = Request.repository
MODEL = Request.model


def add_repository(parser: argparse.ArgumentParser) -> None:
    """Add where the versions are, and of which model."""
    parser.add_argument(
        "--repository", type=Path, default=REPOSITORY, metavar="PATH", help="model repository (default: %(default)s)"
    )
    parser.add_argument(
        "--model", type=_model_name, default=MODEL, metavar="NAME", help="the model in it (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _model_name(text: str) -> str:
    """A name that is one folder, as serving takes it."""
    if not is_model_name(text):
        raise argparse.ArgumentTypeError(f"expected letters, digits, '_' and '-', came {text!r}")
    return text
