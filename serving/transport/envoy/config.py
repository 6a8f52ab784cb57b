"""The configuration of the Envoy that Python is inside of, made from our settings.

`python -m serving serve --print-envoy-config` prints it.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from serving.config import Settings
from serving.envoy.admin import admin
from serving.envoy.filters import filters
from serving.envoy.listener import STATS, listener
from serving.envoy.overload import overload_manager
from serving.envoy.parts import Config, typed
from serving.envoy.routes import virtual_host
from serving.machine import usable_memory_bytes

APP = "serving.transport.envoy.inside:app"
"""What Envoy's Python runs."""

NOWHERE = "nowhere"
"""The cluster that routes name: our application answers before any request gets there."""

_STATS = (STATS, "listener.", "listener_manager.workers_started", "server.", "overload.", "sds.")


def envoy_config(settings: Settings, folder: Path) -> Config:
    """All of it; `folder` is where Envoy and this process meet. Raises OSError where `host` is no address."""
    route: Config = {"route": {"cluster": NOWHERE}}
    host = virtual_host(settings, call=route, other=route)
    return {
        "node": {"id": "digits", "cluster": "digits"},
        "admin": admin(folder),
        "static_resources": {
            "listeners": [listener(settings, folder, _filters(settings), host)],
            "clusters": [{"name": NOWHERE, "type": "STATIC"}],
        },
        "overload_manager": overload_manager(
            max_connections=settings.max_connections, memory_bytes=usable_memory_bytes() / settings.workers
        ),
        "stats_config": {"stats_matcher": {"inclusion_list": {"patterns": [{"prefix": name} for name in _STATS]}}},
    }


def _filters(settings: Settings) -> Iterable[Config]:
    yield from filters(settings)
    yield typed(
        "pyvoy",
        "filters.http.dynamic_modules.v3.DynamicModuleFilter",
        {
            "dynamic_module_config": {"module": {"local": {"filename": str(_module())}}},
            "filter_name": "pyvoy",
            "filter_config": {
                "@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": json.dumps({"app": APP, "interface": "asgi", "lifespan": True}),
            },
            "terminal_filter": True,
        },
    )


def _module() -> Path:
    """The library of pyvoy that Envoy loads."""
    import pyvoy  # here, since it is Linux's alone

    return Path(pyvoy.__file__).parent / "_pyvoy.abi3.so"
