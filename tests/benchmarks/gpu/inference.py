"""Bare sessions, no server around them: images a second by size of batch, on the CPU and in each way on a card."""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
import torch

from pipeline.config import load_preset
from pipeline.export import export
from pipeline.training.checkpoint import build_classifier, save_checkpoint
from serving.buckets import Buckets, PageLocked
from serving.pixels import Images
from serving.provider import CPU, CUDA, PROVIDER_OPTIONS, create_session
from tests.serving.conftest import VERSIONS

SHAPE = (28, 28)
OUTPUTS = ["probabilities"]
ROUNDS = 5

Run = Callable[[Images], Any]


def measure(device: str, *, sizes: Sequence[int], round_s: float) -> dict[str, Any]:
    """Images a second, a median over rounds in which all ways take turns: by network, way and size of batch."""
    images = np.random.default_rng(0).integers(0, 256, (max(sizes), *SHAPE), dtype=np.uint8)
    found: dict[str, Any] = {}
    for network, model in _networks():
        ways = _ways(device, model)
        found[network] = {way: {} for way in ways}
        for size in sizes:
            for way, image_s in _take_turns(ways, images[:size], round_s).items():
                found[network][way][str(size)] = image_s
    return found


def alternating(device: str, *, round_s: float) -> dict[str, float]:
    """How much longer batches of 8 and of 32 images take where they come in turns, by network, as they are served.

    More than 1 would mean that something is chosen anew each time that the size changes.
    """
    provider = CUDA if device == "cuda" else CPU
    batches = [np.zeros((size, *SHAPE), np.uint8) for size in (8, 32)]
    found = {}
    for network, model in _networks():
        run = Buckets(create_session(network, model, provider, 1), SHAPE, device=device, lanes=1).run
        alone_s = sum(_seconds(run, [images], round_s) for images in batches)
        found[network] = _seconds(run, batches, round_s) / alone_s
    return found


def _seconds(run: Run, batches: Sequence[Images], round_s: float) -> float:
    """The median of how long it takes to run the batches, over a round after a first one that does not count."""
    spent: list[float] = []
    for _ in range(2):
        spent.clear()
        end = time.perf_counter() + round_s
        while (began := time.perf_counter()) < end:
            for images in batches:
                run(images)
            spent.append(time.perf_counter() - began)
    return statistics.median(spent)


def distances(images: Images) -> dict[str, dict[str, float]]:
    """How far logits on CUDA are from the CPU's, relative to the largest: strict, and with TF32. By network."""
    found = {}
    for network, model in _networks():
        expected = create_session(network, model, CPU, 1).run(["logits"], {"images": images})[0]
        scale = float(np.abs(expected).max())
        found[network] = {
            name: float(np.abs(_cuda(model, use_tf32=tf32).run(["logits"], {"images": images})[0] - expected).max())
            / scale
            for name, tf32 in (("strict", "0"), ("TF32", "1"))
        }
    return found


def _take_turns(ways: Mapping[str, Run], images: Images, round_s: float) -> dict[str, float]:
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for run in ways.values():
        for _ in range(5):
            run(images)
    for _ in range(ROUNDS):
        for way, run in ways.items():
            count, began = 0, time.perf_counter()
            while (spent := time.perf_counter() - began) < round_s:
                run(images)
                count += 1
            rates[way].append(count * len(images) / spent)
    return {way: statistics.median(rounds) for way, rounds in rates.items()}


def _ways(device: str, model: bytes) -> dict[str, Run]:
    """Each way to run the model; without a card those of a card run on the CPU, to see that they run."""
    cores = max(1, (os.cpu_count() or 1) // 2)
    ways = {"CPU, 1 thread": _plain(create_session("model.onnx", model, CPU, 1))}
    if cores > 1:
        ways[f"CPU, {cores} threads"] = _plain(create_session("model.onnx", model, CPU, cores))
    provider = CUDA if device == "cuda" else CPU
    runtime = create_session("model.onnx", model, provider, 1)
    ways["CUDA, plain run"] = _plain(runtime)
    ways["CUDA, as served"] = Buckets(runtime, SHAPE, device=device, lanes=1).run
    if device == "cuda":
        ways["CUDA, as served, TF32"] = Buckets(_cuda(model, use_tf32="1"), SHAPE, device=device, lanes=1).run
        ways["CUDA, CUDA graphs"] = _with_graphs(_cuda(model, use_tf32="0", enable_cuda_graph="1"))
    return ways


def _plain(runtime: onnxruntime.InferenceSession) -> Run:
    return lambda images: runtime.run(OUTPUTS, {"images": images})


def _cuda(model: bytes, **changes: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    providers = [(CUDA, {**PROVIDER_OPTIONS[CUDA], **changes})]
    return onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=0)


def _with_graphs(runtime: onnxruntime.InferenceSession) -> Run:
    """A graph a size, each with memory of its own: what onnxruntime asks for ("Using CUDA Graphs")."""
    value = onnxruntime.OrtValue
    bound: dict[int, Run] = {}

    def bind(size: int) -> Run:
        here = PageLocked((size, *SHAPE))
        there = value.ortvalue_from_shape_and_type((size, *SHAPE), np.uint8, "cuda")
        outputs = {
            output.name: value.ortvalue_from_shape_and_type((size, *output.shape[1:]), np.float32, "cuda")
            for output in runtime.get_outputs()
        }
        binding = runtime.io_binding()
        binding.bind_ortvalue_input("images", there)
        for name, output in outputs.items():
            binding.bind_ortvalue_output(name, output)
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("gpu_graph_id", str(size))

        def run(images: Images) -> Any:
            here.array[:] = images
            there.update_inplace(here.array)
            runtime.run_with_iobinding(binding, options)
            return {name: output.numpy() for name, output in outputs.items()}

        return run

    def run(images: Images) -> Any:
        size = len(images)
        if size not in bound:
            bound[size] = bind(size)
        return bound[size](images)

    return run


def _networks() -> Iterator[tuple[str, bytes]]:
    """The default preset's, trained, and the larger one, as it starts: what it has learnt does not change its time."""
    yield "default", (VERSIONS / "1" / "model.onnx").read_bytes()
    with TemporaryDirectory() as folder:
        yield "accurate", untrained("accurate", Path(folder))


def untrained(name: str, folder: Path) -> bytes:
    """The ONNX file of a preset's network as it starts."""
    preset = load_preset(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = build_classifier(preset.network, mean=0.1307, std=0.3081)
    save_checkpoint(folder / "checkpoint.pt", classifier, preset.network)
    return export(folder / "checkpoint.pt", folder / "model.onnx", size=28).read_bytes()


def overtakes(rates: Mapping[str, Mapping[str, float]], cpu: str, cuda: str = "CUDA, as served") -> int | None:
    """The smallest size of batch from which the card answers more images a second than that way on the CPU."""
    sizes = sorted(map(int, rates[cuda]), reverse=True)
    ahead = None
    for size in sizes:
        if rates[cuda][str(size)] <= rates[cpu][str(size)]:
            break
        ahead = size
    return ahead
