"""`python -m serving.door`: Envoy before several servers, from the settings to the exit code."""

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # as in serving/__main__.py

import argparse
import asyncio
import json
import logging
import sys
from contextlib import suppress
from pathlib import Path

from serving.door.config import envoy_config
from serving.door.door import Door
from serving.door.settings import DoorSettings
from serving.errors import SettingsError, WorkerError
from serving.printable import printable
from serving.telemetry import logs

FOLDER = "/run/serving-door"
"""Stands in what is printed for the folder that each door makes for itself."""

STOPS = (signal.SIGTERM, signal.SIGINT)

log = logging.getLogger("serving.door")


def main(arguments: list[str] | None = None) -> int:
    """Keep the door open until told to stop; 0 after a drain, 1 if it cannot start or breaks, 2 for wrong settings."""
    parser = argparse.ArgumentParser(
        prog="python -m serving.door",
        description="Take calls for several servers: gRPC, gRPC-Web and HTTP/JSON on one port, each call to a healthy "
        "replica. SIGTERM and Ctrl-C drain. Prints one line when it listens; logs go to stderr.",
    )
    DoorSettings.add_arguments(parser)
    parser.add_argument("--print-envoy-config", action="store_true", help="print what Envoy would be told, and end")
    parser.add_argument("--json", action="store_true", help="print that line as JSON")
    options = parser.parse_args(arguments)
    try:
        settings = DoorSettings.read(vars(options))
        if options.print_envoy_config:
            print(json.dumps(envoy_config(settings, Path(FOLDER)), indent=2))
            return 0
        logs.set_up(settings.log_level, settings.log_format)
        return asyncio.run(_keep(settings, as_json=options.json))
    except SettingsError as error:
        print(printable(f"serving.door: {error}"), file=sys.stderr)
        return 2
    except (WorkerError, OSError) as error:
        log.critical("%s", error)
        return 1


async def _keep(settings: DoorSettings, *, as_json: bool) -> int:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for name in STOPS:
        loop.add_signal_handler(name, stop.set)
    door = Door(settings)
    await door.start()
    if as_json:
        told = {"address": f"{settings.host}:{door.port}", "port": door.port, "metrics_port": door.metrics_port}
        print(json.dumps(told), flush=True)
    else:
        print(f"listening on {settings.host}:{door.port}", flush=True)
    stopping, broken = asyncio.ensure_future(stop.wait()), asyncio.ensure_future(door.broken())
    await asyncio.wait({stopping, broken}, return_when=asyncio.FIRST_COMPLETED)
    if not stop.is_set():
        log.critical("%s", broken.result())
    await _drain(door)
    broken.cancel()
    return 0 if stop.is_set() else 1


async def _drain(door: Door) -> None:
    """Drain until a second signal, which then ends this process too."""
    draining = asyncio.ensure_future(door.drain())
    second: list[signal.Signals] = []

    def end_now(name: signal.Signals) -> None:
        second.append(name)
        draining.cancel()

    for name in STOPS:
        asyncio.get_running_loop().add_signal_handler(name, end_now, name)
    with suppress(asyncio.CancelledError):
        await draining
    if second:
        signal.signal(second[0], signal.SIG_DFL)
        signal.raise_signal(second[0])


if __name__ == "__main__":
    sys.exit(main())
