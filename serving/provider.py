"""Where a model runs: which of onnxruntime's execution providers works here, and a session of a model on it."""

import base64
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from threading import Timer
from typing import Literal, TypeAlias

import onnxruntime

from serving.errors import ProviderError, VersionHungError, VersionNotReadyError, VersionRefusedError

log = logging.getLogger(__name__)

Provider = Literal["auto", "cuda", "cpu"]
RunOptions: TypeAlias = onnxruntime.RunOptions
CUDA = "CUDAExecutionProvider"
CPU = "CPUExecutionProvider"

PROVIDER_OPTIONS = {
    CPU: {},
    # TF32 keeps 10 bits of a number: the known answers would not come out. HEURISTIC, since EXHAUSTIVE, the default,
    # tries every algorithm for each size of batch: seconds in which a new version does not answer. The arena takes what
    # is asked for and not the next power of two, so that several processes fit on a card.
    CUDA: {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC", "arena_extend_strategy": "kSameAsRequested"},
}

# y = Relu(x), x: float32[1], opset 20: the smallest model that shows whether a provider works.
_PROBE = base64.b64decode("CAo6MwoMCgF4EgF5IgRSZWx1EgFnWg8KAXgSCgoICAESBAoCCAFiDwoBeRIKCggIARIECgIIAUIECgAQFA==")

_OUT_OF_MEMORY = re.compile(
    r"out of memory|failed to allocate memory|smaller than requested bytes|bad.?alloc|alloc(ation)?_failed",
    re.IGNORECASE,
)
"""What CUDA, cuDNN, onnxruntime's arena and a CPU say when there is no more."""

# Errors reach us as exceptions; what onnxruntime prints beside them to stderr has no place in our log.
onnxruntime.set_default_logger_severity(4)


def execution_provider(provider: Provider) -> str:
    """The execution provider that `provider` means here; raises ProviderError when "cuda" does not work.

    onnxruntime lists CUDA wherever it was built with it, and falls back in silence: only a session tells the truth.
    """
    fault = None if provider == "cpu" else _cuda_fault()
    if provider == "cuda" and fault:
        raise ProviderError(f"--provider cuda: {fault}; mend that, or use --provider cpu")
    if provider == "auto":
        log.info("provider auto takes %s", f"the CPU: {fault}" if fault else "CUDA")
    return CUDA if provider != "cpu" and not fault else CPU


def create_session(
    name: str, content: bytes, provider: str, threads: int, gpu_memory_mib: int | None = None
) -> onnxruntime.InferenceSession:
    """An onnxruntime session of a model whose every node runs on `provider`, an execution provider.

    It takes at most `gpu_memory_mib` of a card's memory, beside what CUDA itself needs. Raises VersionRefusedError,
    with `name` for the model, when onnxruntime cannot load it so.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    provider_options = dict(PROVIDER_OPTIONS[provider])
    if provider == CUDA:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        if gpu_memory_mib is not None:
            provider_options["gpu_mem_limit"] = str(gpu_memory_mib << 20)
    try:
        session = onnxruntime.InferenceSession(
            content,
            options,
            providers=[(provider, provider_options)],
            enable_fallback=0,  # else a failing run moves to the CPU, and the answer names the wrong provider
        )
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        kind = VersionNotReadyError if is_out_of_memory(error) else VersionRefusedError
        raise kind(f"{name}: onnxruntime cannot load it: {first_line(error)}") from error
    if session.get_providers()[0] != provider:
        raise VersionRefusedError(f"{name}: onnxruntime did not take {provider} for it")
    return session


@contextmanager
def time_limit(limit_s: float) -> Iterator[RunOptions]:
    """Options whose runs end after `limit_s`; the block then raises VersionHungError."""
    options = RunOptions()
    timer = Timer(limit_s, setattr, (options, "terminate", True))
    timer.daemon = True
    timer.start()
    try:
        yield options
    except Exception as error:
        if not options.terminate:
            raise
        raise VersionHungError(f"it did not load within {limit_s:g} s") from error
    finally:
        timer.cancel()


def is_out_of_memory(error: Exception) -> bool:
    """Whether onnxruntime, or CUDA below it, failed because there is no memory left."""
    return isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(str(error)) is not None


def first_line(error: Exception) -> str:
    """What the error says, without what onnxruntime tells of its own source."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _cuda_fault() -> str | None:
    if CUDA not in onnxruntime.get_available_providers():
        return "this onnxruntime is built without CUDA (onnxruntime-gpu is)"
    with redirect_stdout(StringIO()) as said:  # it prints what it misses, and stdout is for what scripts read
        onnxruntime.preload_dlls()  # CUDA and cuDNN from their wheels, where there are any
    log.debug("loading CUDA: %s", said.getvalue().strip() or "nothing missed")
    try:
        session = onnxruntime.InferenceSession(_PROBE, providers=[CUDA], enable_fallback=0)
    except Exception as error:  # onnxruntime's exceptions share no base class of their own
        return f"onnxruntime cannot use CUDA here: {first_line(error)}"
    if session.get_providers()[0] != CUDA:
        return "onnxruntime cannot use CUDA here (it needs an NVIDIA driver, CUDA 13 and cuDNN 9)"
    return None
