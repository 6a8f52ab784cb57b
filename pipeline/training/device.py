"""Where to train: a CUDA device when there is one that works, else the CPU."""

import logging
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from pipeline.config import Precision
from pipeline.errors import DeviceError
from pipeline.request import DeviceName

logger = logging.getLogger(__name__)


def choose_device(name: DeviceName) -> torch.device:
    """Turn a wish into a device; DeviceError if it is for CUDA and no usable GPU is there."""
    if name == "cpu":
        return torch.device("cpu")
    fault = _cuda_fault()
    if fault is None:
        return torch.device("cuda")
    if name == "cuda":
        raise DeviceError(f"device cuda was asked for, but {fault}; use --device cpu, or auto to take what is there")
    if torch.cuda.is_available():
        logger.warning("not using the GPU: %s", fault)
    return torch.device("cpu")


def describe_device(device: torch.device) -> str:
    """Name the hardware for the manifest, such as "cuda: NVIDIA H100" or "cpu: Intel(R) Xeon(R) Processor"."""
    model = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    return f"{device.type}: {model}"


@contextmanager
def multiply_as(precision: Precision) -> Iterator[None]:
    """Let a GPU multiply float32 numbers in full, or cut them to TF32's 10 bits, until the block ends."""
    wanted = "tf32" if precision == "tf32" else "ieee"
    # cuDNN's two are kept alike: where they differ, what asks for the one setting that was before them fails.
    cudnn: Any = torch.backends.cudnn
    backends = (cudnn.conv, cudnn.rnn, torch.backends.cuda.matmul)
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = wanted
        yield
    finally:
        for backend, precision_before in zip(backends, before, strict=True):
            backend.fp32_precision = precision_before


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw random numbers from `seed` until the block ends; torch's global generators are then as they were."""
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU
        if gpus:
            torch.cuda.manual_seed(seed)
        yield


def _cuda_fault() -> str | None:
    """Tell what is wrong with CUDA here, if anything: a driver can list a GPU that torch cannot run on."""
    if not torch.cuda.is_available():
        return "torch finds no usable GPU"
    try:
        torch.ones(1, device="cuda").add_(1).item()
    except RuntimeError as error:
        return f"{torch.cuda.get_device_name()} cannot run: {str(error).splitlines()[0]}"
    return None


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
