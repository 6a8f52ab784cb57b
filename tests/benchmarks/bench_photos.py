"""How well photos are read, by what disturbs them, and how long one takes: `python -m tests.benchmarks.bench_photos`.

Accuracies are of version 1 of the tests; times are this process's own, of one thread, at rest or not.
"""

import time
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from protos.artifact.layout import sha256_of
from protos.artifact.v1.manifest_pb2 import Current
from serving.idx import read_images, read_labels
from serving.pixels import Images
from serving.provider import CPU
from serving.session import Session
from serving.versions.manifest import read_version
from tests.serving.conftest import MNIST, VERSIONS
from tests.serving.photographs import DRAWN, HARDER, SEEN, photograph
from tests.serving.test_photos import accuracy, canvas, photographs, prepare, save

COUNT = 1000
ROUNDS = 21


def main() -> None:
    """Print two tables in Markdown."""
    images = read_images(MNIST / "t10k-images-idx3-ubyte.gz")
    labels = read_labels(MNIST / "t10k-labels-idx1-ubyte.gz")
    manifest = VERSIONS / "1" / "manifest.json"
    session = _session(manifest)
    on_images = (session.run(images[:COUNT]).probabilities.argmax(axis=1) == labels[:COUNT]).mean()
    print(f"| photographs of {COUNT} | right |\n| --- | --- |\n| the images themselves | {on_images:.1%} |")
    for name, kind in _kinds():
        print(f"| {name} | {accuracy(photographs(images[:COUNT], *kind), labels[:COUNT], session):.1%} |", flush=True)
    print("\n| file | bytes | ms of the CPU, median |\n| --- | --- | --- |")
    for name, file in _files(images[0]).items():
        print(f"| {name} | {len(file)} | {_milliseconds(file):.1f} |", flush=True)


def _session(manifest: Path) -> Session:
    version = read_version(VERSIONS, Current(version=1, sha256=sha256_of(manifest)))
    return Session(version, provider=CPU, threads=1)


def _kinds() -> Iterator[tuple[str, Any]]:
    yield "scaled up, as JPEG", ((), ())
    for draw in DRAWN:
        yield draw.__name__, ((draw,), ())
    for see in SEEN:
        yield see.__name__, ((), (see,))
    yield "all of them", (DRAWN, SEEN)
    for name, kind in HARDER.items():
        yield f"all of them, and {name}", kind


def _files(image: Images) -> Mapping[str, bytes]:
    photo = photograph(image, np.random.default_rng(0), seen=SEEN[:-1])  # a camera's noise is less, at its full size
    picture = Image.open(BytesIO(photo)).convert("RGB")
    square = picture.resize((1000, 1000))
    return {
        "a canvas, 280 x 280, PNG with alpha": save(canvas(image, (0, 0, 0))),
        "1000 x 1000, PNG": save(square),
        "1000 x 1000, JPEG": save(square, "JPEG", quality=85),
        "1000 x 1000, WebP": save(square, "WEBP"),
    }


def _milliseconds(file: bytes) -> float:
    durations = []
    for _ in range(ROUNDS):
        began = time.process_time()
        prepare(file)
        durations.append(time.process_time() - began)
    return 1000 * float(np.median(durations))


if __name__ == "__main__":
    main()
