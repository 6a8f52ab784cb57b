"""The configuration of the door's Envoy, made of the same parts as that of the Envoy inside a server.

`python -m serving.door --print-envoy-config` prints it. The reference:
https://www.envoyproxy.io/docs/envoy/v1.39.3/api-v3/api
"""

from collections.abc import Iterable
from pathlib import Path

from serving.door.pages import pages
from serving.door.replicas import REPLICAS, replicas
from serving.door.settings import DoorSettings
from serving.envoy.admin import admin
from serving.envoy.filters import filters
from serving.envoy.listener import STATS, address, listener
from serving.envoy.overload import overload_manager
from serving.envoy.parts import Config, duration, typed
from serving.envoy.routes import HEALTH_PAGE, virtual_host
from serving.files import read_files
from serving.machine import usable_memory_bytes

PAGE = Path(__file__).parents[1] / "page"
"""What is served to who comes with a browser."""

NOT_HERE = "there is no such page; calls: POST /v1/classify, GET /v1/model, POST /v1/feature-maps"

MAX_ADDRESSES = 10_000
"""So many callers are told apart by their address at the same time."""

RATE_LIMIT, _RATE_LIMIT = "envoy.filters.http.local_ratelimit", "filters.http.local_ratelimit.v3.LocalRateLimit"

_ADMIN, _METRICS = "admin", "metrics"
_STATS = (STATS, f"cluster.{REPLICAS}.", "listener.", "listener_manager.", "server.", "overload.", "sds.")

_LOGGED = {
    "replica": "%UPSTREAM_HOST%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "replica_ms": "%RESPONSE_DURATION%",
    "flags": "%RESPONSE_FLAGS%",
}
"""What the access log tells of a request besides: who answered, after how many tries, and why it went wrong."""


_SAID = {
    "UH": "no replica serves now: no version is published yet, or all replicas are away; try again in a second",
    "UO": "too many calls are in flight; try again in a second",
}
"""No healthy replica; and a limit of `max_calls`."""


def envoy_config(settings: DoorSettings, folder: Path) -> Config:
    """All of it; `folder` is where Envoy and the door meet.

    Raises OSError where `host` is no address, or the files of the page cannot be read.
    """
    files = read_files(settings.static_files or PAGE)
    host = virtual_host(
        settings,
        call=_call(settings),
        pages=pages(files),
        other={"direct_response": {"status": 404, "body": {"inline_string": NOT_HERE}}},
    )
    listeners = [listener(settings, folder, _filters(settings), host, _LOGGED, _SAID)]
    if settings.metrics_port is not None:
        listeners.append(_metrics(settings, settings.metrics_port))
    return {
        "node": {"id": "door", "cluster": "digits"},
        "admin": admin(folder),
        "static_resources": {
            "listeners": listeners,
            "clusters": [replicas(settings), {"name": _ADMIN, **_endpoint(folder)}],
        },
        "overload_manager": overload_manager(
            max_connections=settings.max_connections, memory_bytes=usable_memory_bytes()
        ),
        "stats_config": {"stats_matcher": {"inclusion_list": {"patterns": [{"prefix": name} for name in _STATS]}}},
    }


def _filters(settings: DoorSettings) -> Iterable[Config]:
    yield typed(
        "envoy.filters.http.health_check",
        "filters.http.health_check.v3.HealthCheck",
        {
            "pass_through_mode": False,
            "headers": [{"name": ":path", "string_match": {"exact": HEALTH_PAGE}}],
            "cluster_min_healthy_percentages": {REPLICAS: {"value": 1}},
        },
    )
    yield from filters(settings)
    yield typed(RATE_LIMIT, _RATE_LIMIT, {"stat_prefix": "digits"})  # which routes of calls fill
    yield typed("envoy.filters.http.router", "filters.http.router.v3.Router", {"suppress_envoy_headers": True})


def _call(settings: DoorSettings) -> Config:
    """Where a call goes. It is tried again only where nothing was started: it may be what a replica died of.

    A replica that drains refuses (UNAVAILABLE); as it closes, grpcio cancels what it has not handed over yet.
    """
    return {
        **_rate_limit(settings),
        "route": {
            "cluster": REPLICAS,
            "timeout": duration(settings.request_timeout_s),
            "retry_policy": {
                "retry_on": "connect-failure,refused-stream,reset-before-request,unavailable,cancelled",
                "num_retries": settings.retries,
                "retry_host_predicate": [
                    typed(
                        "envoy.retry_host_predicates.previous_hosts",
                        "retry.host.previous_hosts.v3.PreviousHostsPredicate",
                        {},
                    )
                ],
                "host_selection_retry_max_attempts": 10,
                "retry_back_off": {"base_interval": "0.01s", "max_interval": "0.1s"},
            },
        },
    }


def _rate_limit(settings: DoorSettings) -> Config:
    """What a route says of it; nothing where any number of calls may come."""
    if not (settings.max_calls_per_s or settings.max_calls_per_s_and_address):
        return {}
    content: Config = {
        "stat_prefix": "digits",
        "token_bucket": _bucket(settings.max_calls_per_s or 10**9),
        "filter_enabled": {"default_value": {"numerator": 100}},
        "filter_enforced": {"default_value": {"numerator": 100}},
        "rate_limited_as_resource_exhausted": True,
        "response_headers_to_add": [{"header": {"key": "retry-after", "value": "1"}}],
    }
    if settings.max_calls_per_s_and_address:
        bucket = _bucket(settings.max_calls_per_s_and_address)
        content |= {
            "descriptors": [{"entries": [{"key": "remote_address"}], "token_bucket": bucket}],
            "rate_limits": [{"actions": [{"remote_address": {}}]}],
            "max_dynamic_descriptors": MAX_ADDRESSES,
        }
    return {"typed_per_filter_config": {RATE_LIMIT: typed(RATE_LIMIT, _RATE_LIMIT, content)["typed_config"]}}


def _bucket(calls_per_s: int) -> Config:
    return {"max_tokens": calls_per_s, "tokens_per_fill": calls_per_s, "fill_interval": "1s"}


def _metrics(settings: DoorSettings, port: int) -> Config:
    """A listener that shows Prometheus the figures of the admin interface, and nothing else of it."""
    route = {"match": {"path": "/metrics"}, "route": {"cluster": _ADMIN, "prefix_rewrite": "/stats/prometheus"}}
    manager = typed(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        {
            "stat_prefix": _METRICS,
            "http_filters": [typed("envoy.filters.http.router", "filters.http.router.v3.Router", {})],
            "route_config": {"virtual_hosts": [{"name": _METRICS, "domains": ["*"], "routes": [route]}]},
        },
    )
    return {
        "name": _METRICS,
        **address(settings.host, port),
        "filter_chains": [{"filters": [manager]}],
        "enable_reuse_port": True,
    }


def _endpoint(folder: Path) -> Config:
    """The admin interface as a cluster."""
    endpoint = {"endpoint": {"address": admin(folder)["address"]}}
    return {"load_assignment": {"cluster_name": _ADMIN, "endpoints": [{"lb_endpoints": [endpoint]}]}}
