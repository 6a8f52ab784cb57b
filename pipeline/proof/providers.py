"""onnxruntime on every execution provider that this machine really has."""

from collections.abc import Mapping
from pathlib import Path

import onnxruntime

CUDA = "CUDAExecutionProvider"
PROVIDERS = ("CPUExecutionProvider", CUDA)  # those that serving offers
STRICT = {"use_tf32": "0"}  # TF32 keeps 10 bits of a number where float32 keeps 23


def sessions(path: Path) -> Mapping[str, onnxruntime.InferenceSession]:
    """The file, loaded on each execution provider that is really there, by its name.

    onnxruntime lists what it was built with and falls back to the CPU in silence: only the session tells the truth.
    """
    loaded = {provider: _load(path, provider, STRICT if provider == CUDA else {}) for provider in PROVIDERS}
    return {provider: session for provider, session in loaded.items() if session is not None}


def session_with_tf32(path: Path) -> onnxruntime.InferenceSession | None:
    """The file on CUDA as onnxruntime loads it unless it is told otherwise; None where there is no CUDA."""
    return _load(path, CUDA, {"use_tf32": "1"})


def _load(path: Path, provider: str, options: Mapping[str, str]) -> onnxruntime.InferenceSession | None:
    onnxruntime.set_default_logger_severity(4)
    if provider not in onnxruntime.get_available_providers():
        return None
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=[(provider, dict(options))], enable_fallback=0)
    return session if session.get_providers()[0] == provider else None
