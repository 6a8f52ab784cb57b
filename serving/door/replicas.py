"""The servers behind the door: how calls are shared among them, and which of them get none."""

from serving.door.settings import DoorSettings
from serving.envoy.listener import CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES
from serving.envoy.parts import Config, duration, typed

REPLICAS = "replicas"
"""The name of the cluster."""

CONNECT_S = 1.0
DNS_S = 2.0
"""How often names are looked up."""
KEEPALIVE_S = 30
"""A silent connection to a replica is tried by TCP; grpcio takes HTTP/2's pings for an attack: it closes after 43 s."""
FAILURES = 3
"""Times in a row that a replica cannot be reached, or breaks off, before it is ejected."""
FAILED_PERCENT, FAILED_OF = 85, 20
"""Of the calls between two looks, if there are so many, that a replica fails before it is ejected.

Envoy counts UNIMPLEMENTED and DEADLINE_EXCEEDED too, which are the callers' own: a few in a row must cost no replica.
"""
MAX_EJECTED_PERCENT = 50
"""The more are ejected, the more the others get: the last half stays."""
RETRIES_PERCENT = 20
"""Of the calls in flight, that may be retries: more would make a failure worse."""


def replicas(settings: DoorSettings) -> Config:
    """A cluster of all addresses that the names have, HTTP/2 to each, call by call in turn."""
    return {
        "name": REPLICAS,
        "cluster_type": typed(
            "envoy.cluster.dns",
            "clusters.dns.v3.DnsCluster",
            {"dns_lookup_family": "V4_PREFERRED", "dns_refresh_rate": duration(DNS_S)},
        ),
        "connect_timeout": duration(CONNECT_S),
        "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": KEEPALIVE_S, "keepalive_interval": 5}},
        "lb_policy": "ROUND_ROBIN",  # LEAST_REQUEST prefers who fails: it has the fewest calls
        "load_assignment": {"cluster_name": REPLICAS, "endpoints": [{"lb_endpoints": _endpoints(settings)}]},
        "typed_extension_protocol_options": _HTTP2,
        "health_checks": [_health_check(settings)],
        "outlier_detection": _outlier_detection(settings),
        "common_lb_config": {
            # With no healthy replica a call is refused at once. By default Envoy would then ask those that are not.
            "healthy_panic_threshold": {"value": 0},
            # Who goes gets no calls from now on. By default a second change within a second waits for its end.
            "update_merge_window": "0s",
        },
        "circuit_breakers": {"thresholds": [_most(settings)]},
    }


def _endpoints(settings: DoorSettings) -> list[Config]:
    return [
        {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}}
        for host, port in settings.replica_addresses
    ]


def _most(settings: DoorSettings) -> Config:
    """What there may be at the same time."""
    return {
        "max_connections": settings.max_calls,
        "max_pending_requests": settings.max_calls,
        "max_requests": settings.max_calls,
        "retry_budget": {"budget_percent": {"value": RETRIES_PERCENT}, "min_retry_concurrency": 10},
    }


def _health_check(settings: DoorSettings) -> Config:
    """The health service of each replica is asked: one that drains, or has no model, gets no calls."""
    every = duration(settings.check_interval_s)
    return {
        "grpc_health_check": {},
        "timeout": "1s",
        "interval": every,
        "no_traffic_interval": every,  # by default a minute: so long nothing would be known of a replica
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
    }


def _outlier_detection(settings: DoorSettings) -> Config:
    """Who fails nearly all calls although it calls itself healthy, or cannot be reached, is left out for a while.

    A wrong request (INVALID_ARGUMENT) and a refusal by load (RESOURCE_EXHAUSTED) are no failures.
    """
    return {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": FAILURES,
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_success_rate": 0,
        "enforcing_local_origin_success_rate": 0,
        "failure_percentage_threshold": FAILED_PERCENT,
        "enforcing_failure_percentage": 100,
        "failure_percentage_request_volume": FAILED_OF,
        "failure_percentage_minimum_hosts": 2,
        "interval": duration(settings.check_interval_s),
        "base_ejection_time": duration(settings.ejection_s),
        "max_ejection_percent": MAX_EJECTED_PERCENT,
        "successful_active_health_check_uneject_host": False,  # it says that it is healthy, and fails
    }


_HTTP2 = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {
            "http2_protocol_options": {
                "initial_stream_window_size": STREAM_WINDOW_BYTES,
                "initial_connection_window_size": CONNECTION_WINDOW_BYTES,
            }
        },
    }
}
