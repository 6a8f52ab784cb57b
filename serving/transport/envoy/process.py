"""How Envoy is started: with which program, arguments, environment and folder."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from serving.config import Settings
from serving.envoy.certificates import write_certificates
from serving.envoy.program import command
from serving.errors import WorkerError
from serving.transport.envoy.config import envoy_config
from serving.workers.launch import Launch

LINK, FOLDER = "DIGITS_ENVOY_LINK", "DIGITS_ENVOY_FOLDER"
"""The environment variables that tell the Python inside its descriptor to the supervisor, and the folder they share."""


@contextmanager
def launch_envoy(settings: Settings, link: int) -> Iterator[Launch]:
    """How to start an Envoy whose Python finds the supervisor at descriptor `link`; its folder goes with the context.

    Raises OSError where the host, or a certificate, is none, WorkerError where there is no Envoy for this machine.
    """
    if sys.platform != "linux":
        raise WorkerError("--transport envoy: Envoy comes for Linux only; use --transport grpcio")
    with TemporaryDirectory(prefix="serving-envoy-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        write_certificates(settings, folder)
        config = folder / "envoy.json"
        config.write_text(json.dumps(envoy_config(settings, folder), indent=2))
        # Python answers with one thread: another one of Envoy's would take its core.
        yield Launch(command(settings, config, threads=1), environment(folder, link))


def environment(folder: Path, link: int) -> dict[str, str]:
    """What makes the Python inside Envoy this one: its packages, and its library, which pyvoy expects to be there.

    Raises WorkerError where this Python has no library.
    """
    from find_libpython import find_libpython  # here, since it is Linux's alone

    library = find_libpython()
    if library is None:
        raise WorkerError(
            f"{sys.executable} has no shared library, which Envoy would load: install it (Debian: libpython3-dev), or "
            "serve with --transport grpcio"
        )
    return os.environ | {
        "LD_PRELOAD": " ".join(filter(None, [library, os.environ.get("LD_PRELOAD")])),
        "PYTHONHOME": f"{sys.prefix}{os.pathsep}{sys.exec_prefix}",
        "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
        "GRPC_VERBOSITY": "NONE",  # as in serving/__main__.py
        LINK: str(link),
        FOLDER: str(folder),
    }
