"""`python -m serving serve`: one server, or several behind a port, from the settings to the exit code."""

import argparse
import asyncio
import gc
import json
import logging
import signal
import sys
from pathlib import Path
from typing import Any

import uvloop

from serving.config import Settings
from serving.errors import ProviderError, SettingsError, WorkerError
from serving.printable import printable
from serving.server import Server
from serving.telemetry import logs
from serving.transport.envoy.config import envoy_config
from serving.workers.supervisor import Supervisor

STOPS = (signal.SIGTERM, signal.SIGINT)

FOLDER = "/run/serving-envoy"
"""Stands in what is printed for the folder that each server makes for itself."""

log = logging.getLogger(__name__)


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `serve` to the command line."""
    parser = commands.add_parser(
        "serve",
        help="serve the newest good version over gRPC until SIGTERM or Ctrl-C",
        description="Serve the newest good version of a model repository over gRPC. SIGTERM and Ctrl-C drain: every "
        "call in flight is answered first. Prints one line when it listens; logs go to stderr.",
    )
    Settings.add_arguments(parser)
    parser.add_argument(
        "--print-envoy-config", action="store_true", help="print what --transport envoy would tell Envoy, and end"
    )
    parser.add_argument("--json", action="store_true", help="print that line as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until told to stop; 0 after a drain, 1 when it cannot start, 2 for wrong settings."""
    try:
        settings = Settings.read(vars(options))
        if options.print_envoy_config:
            print(json.dumps(envoy_config(settings, Path(FOLDER)), indent=2))
            return 0
        logs.set_up(settings.log_level, settings.log_format)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, as_json=options.json))
    except SettingsError as error:
        print(printable(f"serving: {error}"), file=sys.stderr)
        return 2
    except (ProviderError, WorkerError, OSError) as error:
        log.critical("%s", error)
        return 1
    return 0


async def _serve(settings: Settings, *, as_json: bool) -> None:
    stop = asyncio.Event()
    for name in STOPS:
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    is_alone = settings.workers == 1 and settings.transport != "envoy"
    server: Server | Supervisor = Server(settings) if is_alone else Supervisor(settings)
    starting, stopping = asyncio.ensure_future(server.start()), asyncio.ensure_future(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()  # told to stop while it loads
        await _drain(server)
        return
    await starting
    gc.collect()
    gc.freeze()  # what is here now stays: the collector need not look at it again and again
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{host}:{server.port}"
    if as_json:
        print(json.dumps({"address": address, "port": server.port, "metrics_port": server.metrics_port}), flush=True)
    else:
        print(f"listening on {address}", flush=True)
    ends: list[asyncio.Future[Any]] = [stopping, *([server.broken] if server.broken else [])]
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    await _drain(server)


async def _drain(server: Server | Supervisor) -> None:
    if isinstance(server, Server):  # a second signal ends it at once; a supervisor ends its workers first
        for name in STOPS:
            asyncio.get_running_loop().remove_signal_handler(name)
            signal.signal(name, signal.SIG_DFL)
    await server.drain()
