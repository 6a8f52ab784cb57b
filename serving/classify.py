"""`python -m serving classify`: files in, digits out, by way of a server."""

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from serving import idx
from serving.client import Classifications, Credentials, DigitClient, Model, tls
from serving.errors import InvalidRequestError, ServingError
from serving.printable import printable

Classify = Callable[[Any], Classifications]

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Answer:
    """What came back for one image of one file."""

    name: str
    digit: int
    label: str
    confidence: float


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `classify` to the command line."""
    parser = commands.add_parser(
        "classify",
        help="have PNG or IDX files, or photos, classified by a server",
        description="Send images to a server and print the label and the confidence for each. PNG files must have the "
        "model's size, as the pictures that it learnt from (for MNIST light ink on a dark ground); IDX files (.gz or "
        "not) hold many images. With --photo every file is a PNG, JPEG or WebP file of any size, a photograph of one "
        "digit on paper or a drawing of one: the server makes an image of it first.",
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="a PNG file or an IDX file of images")
    parser.add_argument("--photo", action="store_true", help="the files are photos or drawings of one digit, any size")
    parser.add_argument("--server", default="127.0.0.1:50051", metavar="HOST:PORT", help="default: %(default)s")
    parser.add_argument(
        "--labels", type=Path, metavar="PATH", help="IDX file of the true labels: print the accuracy instead"
    )
    parser.add_argument(
        "--batch", type=_count, metavar="COUNT", help="images a call (default: as many as the server takes)"
    )
    parser.add_argument(
        "--timeout-s", type=_seconds, default=10.0, metavar="S", help="a call's deadline (default: %(default)s)"
    )
    parser.add_argument("--tls", action="store_true", help="call a server with TLS (said by any of the next three too)")
    parser.add_argument("--tls-ca", type=Path, metavar="PATH", help="PEM: who vouches for the server")
    parser.add_argument("--tls-certificate", type=Path, metavar="PATH", help="PEM: yours, if the server asks for it")
    parser.add_argument("--tls-key", type=Path, metavar="PATH", help="PEM: the key of your certificate")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Classify and print; 0 when every image has its answer, else 1."""
    try:
        with DigitClient(options.server, timeout_s=options.timeout_s, credentials=_credentials(options)) as client:
            _classify(client, options)
    except ServingError as error:
        print(printable(f"classify: {options.server}: {error.message}"), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("classify: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:
        reason = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            reason = f"{error.filename}: cannot be read: {error.strerror}"
        print(printable(f"classify: {reason}"), file=sys.stderr)
        return 1
    return 0


def _credentials(options: argparse.Namespace) -> Credentials | None:
    ca, certificate, key = options.tls_ca, options.tls_certificate, options.tls_key
    if (certificate is None) != (key is None):
        raise ValueError("--tls-certificate and --tls-key: came one of them, expected both or none")
    return tls(ca, certificate, key) if options.tls or ca or certificate else None


def _classify(client: DigitClient, options: argparse.Namespace) -> None:
    model = client.model()
    classify_files, batches_of = (client.classify_photos, _photo) if options.photo else (client.classify_png, _batches)
    batches = [batch for path in options.paths for batch in batches_of(path, options.batch or model.max_image_count)]
    labels = None if options.labels is None else idx.read_labels(options.labels)
    image_count = sum(len(images) for _, images in batches)
    if labels is not None and len(labels) != image_count:
        raise ValueError(
            f"{options.labels}: holds {len(labels)} labels, expected one for each of the {image_count} images"
        )
    if not image_count:
        raise ValueError(f"{', '.join(map(str, options.paths))}: holds no image")
    started = time.perf_counter()
    results = _send(client.classify, classify_files, batches, image_count)
    seconds = time.perf_counter() - started
    if labels is None:
        _print_answers(_answers(batches, results, model), as_json=options.json)
    else:
        _print_accuracy(_summary(results, labels, seconds), as_json=options.json)


def _batches(path: Path, batch: int) -> Iterator[tuple[str, "NDArray[np.uint8] | list[bytes]"]]:
    """The images of one file in batches of at most `batch`, each with the name of its file."""
    with path.open("rb") as file:
        is_png = file.read(len(PNG_MAGIC)) == PNG_MAGIC
    if is_png:
        yield str(path), [path.read_bytes()]
        return
    images = idx.read_images(path)
    for start in range(0, len(images), batch):
        yield str(path), images[start : start + batch]


def _photo(path: Path, _batch: int) -> Iterator[tuple[str, list[bytes]]]:
    """A call of its own, so that the one at fault is known."""
    yield str(path), [path.read_bytes()]


def _send(classify: Classify, classify_files: Classify, batches: list[Any], image_count: int) -> list[Classifications]:
    results = []
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("classifying", total=image_count)
        for name, images in batches:
            try:
                results.append((classify_files if isinstance(images, list) else classify)(images))
            except InvalidRequestError as error:
                raise ValueError(f"{name}: {error.message}") from error
            progress.advance(task, len(images))
    return results


def _answers(batches: list[Any], results: list[Classifications], model: Model) -> Iterator[Answer]:
    position: dict[str, int] = {}
    for (name, images), result in zip(batches, results, strict=True):
        for digit, confidence in zip(result.digits.tolist(), result.confidences.tolist(), strict=True):
            index = position[name] = position.get(name, -1) + 1
            shown = name if isinstance(images, list) else f"{name}[{index}]"
            yield Answer(shown, digit, model.labels[digit], confidence)


def _print_answers(answers: Iterator[Answer], *, as_json: bool) -> None:
    for answer in answers:
        if as_json:
            print(json.dumps(vars(answer)))
        else:
            print(printable(f"{answer.name}: {answer.label} ({100 * answer.confidence:.1f} %)"))


def _summary(results: list[Classifications], labels: NDArray[np.uint8], seconds: float) -> dict[str, Any]:
    digits = np.concatenate([result.digits for result in results])
    return {
        "accuracy": float((digits == labels).mean()),
        "image_count": len(digits),
        "images_per_second": round(len(digits) / seconds),
        "model_versions": sorted({result.model_version for result in results}),
        "providers": sorted({result.provider for result in results}),
    }


def _print_accuracy(summary: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(summary))
        return
    print(f"accuracy: {100 * summary['accuracy']:.2f} % of {summary['image_count']} images")
    print(f"model version: {', '.join(map(str, summary['model_versions']))}")
    print(printable(f"provider: {', '.join(summary['providers'])}"))
    print(f"speed: {summary['images_per_second']} images/s")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 upwards, came {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 < (value := float(text)) < float("inf"):
            return value
    raise argparse.ArgumentTypeError(f"expected a number of seconds above 0, came {text!r}")
