"""onnxruntime on every execution provider that this machine really has."""

from collections.abc import Mapping
from pathlib import Path

import onnxruntime

CUDA = "CUDAExecutionProvider"
PROVIDERS = ("CPUExecutionProvider", CUDA)  # those that serving offers
STRICT = {CUDA: {"use_tf32": "0"}}  # TF32 keeps 10 bits of a number where float32 keeps 23


def sessions(path: Path) -> Mapping[str, onnxruntime.InferenceSession]:
    """The file, loaded on each execution provider that is really there, by its name.

    onnxruntime lists what it was built with and falls back to the CPU in silence: only the session tells the truth.
    """
    onnxruntime.set_default_logger_severity(4)
    loaded = {}
    for provider in PROVIDERS:
        if provider in onnxruntime.get_available_providers():
            options = [(provider, STRICT.get(provider, {}))]
            session = onnxruntime.InferenceSession(path.read_bytes(), providers=options, enable_fallback=0)
            if session.get_providers()[0] == provider:
                loaded[provider] = session
    return loaded
