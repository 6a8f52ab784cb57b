"""Measures everything that is promised of a card, and writes docs/gpu: figures.json, figures.md and overtakes.svg.

    python -m tests.benchmarks.bench_gpu [--only training inference serving] [--out FOLDER]

Sections that are not measured keep what the folder has from the same card. With `--device cpu --quick` nothing is
measured that would be worth a look, but every line of it runs.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from pipeline.training.device import choose_device, describe_device
from serving.idx import read_images
from serving.provider import execution_provider
from tests.benchmarks.gpu import inference, report, serving, training
from tests.benchmarks.gpu.serving import Load
from tests.programs import ROOT
from tests.serving.conftest import MNIST

SECTIONS = ("training", "inference", "serving")
PACKAGES = ("torch", "onnxruntime-gpu", "grpcio", "numpy")
Write = Callable[[Mapping[str, Any]], None]
"""Adds figures to those that there are, and writes all of them."""

LOADS = (Load(16, 1), Load(8, 256), Load(16, 1024))


def main() -> None:
    """Measure the sections one after the other, and write what there is again and again."""
    options = _options()
    if options.device == "cuda":
        choose_device("cuda")
        execution_provider("cuda")
    options.out.mkdir(parents=True, exist_ok=True)
    figures = _begin(options.out / "figures.json", options.device)

    def write(found: Mapping[str, Any]) -> None:
        figures.update(found)
        (options.out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
        (options.out / "figures.md").write_text(report.to_markdown(figures))

    for section in options.only:
        began = time.perf_counter()
        _MEASURE[section](options.device, options.quick, write)
        print(f"{section}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    if "inference" in figures:
        report.plot(figures, options.out / "overtakes.svg")
    print((options.out / "figures.md").read_text())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="default: all")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to see that it runs")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "gpu", help="default: %(default)s")
    parser.add_argument("--quick", action="store_true", help="little of everything")
    return parser.parse_args()


def _begin(path: Path, device: str) -> dict[str, Any]:
    """Where and with what; what the file has of the same card and versions is kept."""
    here: dict[str, Any] = {
        "card": describe_device(torch.device(device)),
        "host": f"{os.cpu_count()} cores ({describe_device(torch.device('cpu')).removeprefix('cpu: ')})",
        "versions": {"Python": platform.python_version(), **{name: _version(name) for name in PACKAGES}, **_cuda()},
    }
    kept = json.loads(path.read_text()) if path.exists() else {}
    is_same = all(kept.get(key) == value for key, value in here.items())
    return {**(kept if is_same else {}), "date": f"{datetime.now(UTC):%Y-%m-%d}", **here}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return str(__import__(package.removesuffix("-gpu")).__version__)  # unpacked, not installed


def _cuda() -> dict[str, str]:
    if not torch.cuda.is_available():
        return {}
    return {"CUDA": str(torch.version.cuda), "cuDNN": str(torch.backends.cudnn.version())}  # type: ignore[no-untyped-call]


def _measure_training(device: str, quick: bool, write: Write) -> None:
    presets = ("default",) if quick else ("default", "accurate")
    seeds, epochs = (2, 2) if quick else (5, None)
    write({"training": training.measure(torch.device(device), seeds=seeds, presets=presets, epochs=epochs)})


def _measure_inference(device: str, quick: bool, write: Write) -> None:
    sizes = (1, 64) if quick else tuple(1 << power for power in range(13))
    round_s = 0.05 if quick else 0.2
    write({"alternating": inference.alternating(device, round_s=round_s)})
    if device == "cuda":
        write({"distances": inference.distances(read_images(MNIST / "t10k-images-idx3-ubyte.gz")[:1000])})
    write({"inference": inference.measure(device, sizes=sizes, round_s=round_s)})


def _measure_serving(device: str, quick: bool, write: Write) -> None:
    write({"swaps": serving.swaps(device, 4 if quick else 20)})
    serving.measure(
        device,
        networks=("default",) if quick else ("default", "accurate"),
        workers=(1,) if quick else (1, 4),
        loads=LOADS[:2] if quick else LOADS,
        round_s=0.5 if quick else 1.5,
        on_server=lambda found: write({"serving": found}),
    )


_MEASURE: Mapping[str, Callable[[str, bool, Write], None]] = {
    "training": _measure_training,
    "inference": _measure_inference,
    "serving": _measure_serving,
}


if __name__ == "__main__":
    main()
