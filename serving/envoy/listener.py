"""A listener of Envoy: addresses, HTTP/1.1 and HTTP/2, TLS, limits, access log.

The reference is https://www.envoyproxy.io/docs/envoy/v1.39.3/api-v3/api; a name ending in `.v3.Something` stands there.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from serving.engine.transport.port import addresses
from serving.envoy.certificates import CERTIFICATE, CLIENT_CA
from serving.envoy.parts import Config, duration, typed
from serving.envoy.routes import own_words
from serving.files import MAX_BYTES
from serving.settings import ListenerSettings

STATS = "http.digits."
"""How the names of the listener's own figures begin."""
MAX_HEADERS, MAX_HEADERS_KIB = 100, 32
HEADERS_TIMEOUT_S = 10
"""A client has so long to send a request's headers."""
KEEPALIVE_S, KEEPALIVE_ANSWER_S = 60, 20
"""A silent HTTP/2 connection is asked for a sign of life."""
STREAM_WINDOW_BYTES, CONNECTION_WINDOW_BYTES = 2**20, 2**24


def listener(
    settings: ListenerSettings,
    folder: Path,
    filters: Iterable[Config],
    virtual_host: Config,
    logged: Mapping[str, str] = {},
    said: Mapping[str, str] = {},
) -> Config:
    """One that passes requests through `filters`, then by the routes of `virtual_host`.

    `folder` has the certificates, `logged` is what the access log tells besides, `said` what Envoy says
    in place of its own words (`own_words`). Raises OSError where the host is no address.
    """
    chain: Config = {
        "filters": [
            typed(
                "envoy.filters.network.http_connection_manager",
                "filters.network.http_connection_manager.v3.HttpConnectionManager",
                _http(settings, filters, virtual_host, logged, said),
            )
        ]
    }
    if settings.tls_certificate:
        chain["transport_socket"] = typed(
            "envoy.transport_sockets.tls",
            "transport_sockets.tls.v3.DownstreamTlsContext",
            _tls(folder, asks_for_certificate=settings.tls_client_ca is not None),
        )
    return {
        "name": "digits",
        **address(settings.host, settings.port),
        "filter_chains": [chain],
        "enable_reuse_port": True,
        "per_connection_buffer_limit_bytes": settings.max_message_bytes + 2**16,
    }


def address(host: str, port: int) -> Config:
    """Every address that the name means here, as a listener has it. Raises OSError where that is none."""
    first, *others = [
        {
            "socket_address": {
                "address": number,
                "port_value": port,
                **({"ipv4_compat": True} if number == "::" else {}),
            }
        }
        for _, number in addresses(host)
    ]
    return {
        "address": first,
        **({"additional_addresses": [{"address": other} for other in others]} if others else {}),
    }


def _http(
    settings: ListenerSettings,
    filters: Iterable[Config],
    virtual_host: Config,
    logged: Mapping[str, str],
    said: Mapping[str, str],
) -> Config:
    return {
        "stat_prefix": "digits",
        "codec_type": "AUTO",  # HTTP/1.1 or HTTP/2, as the client begins
        "generate_request_id": False,
        "use_remote_address": True,
        "normalize_path": True,
        "max_request_headers_kb": MAX_HEADERS_KIB,
        "request_headers_timeout": duration(HEADERS_TIMEOUT_S),
        "request_timeout": duration(settings.request_timeout_s),
        "stream_idle_timeout": duration(settings.request_timeout_s),
        "common_http_protocol_options": {
            "idle_timeout": duration(settings.idle_timeout_s),
            "max_headers_count": MAX_HEADERS,
        },
        "http2_protocol_options": {
            "max_concurrent_streams": settings.max_concurrent_streams,
            "initial_stream_window_size": STREAM_WINDOW_BYTES,
            "initial_connection_window_size": CONNECTION_WINDOW_BYTES,
            "connection_keepalive": {
                "interval": duration(KEEPALIVE_S),
                "timeout": duration(KEEPALIVE_ANSWER_S),
            },
        },
        "http_filters": list(filters),
        "route_config": {"virtual_hosts": [virtual_host], "max_direct_response_body_size_bytes": MAX_BYTES},
        "local_reply_config": {"mappers": list(own_words(said))},
        **({"access_log": [_access_log(settings.access_log, logged)]} if settings.access_log else {}),
    }


def _tls(folder: Path, *, asks_for_certificate: bool) -> Config:
    """The certificates come by a file of their own each, which Envoy reads again whenever it is replaced."""
    context: Config = {
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "tls_certificate_sds_secret_configs": [_secret(folder, CERTIFICATE)],
    }
    if asks_for_certificate:
        context["validation_context_sds_secret_config"] = _secret(folder, CLIENT_CA)
    return {"common_tls_context": context, "require_client_certificate": asks_for_certificate}


def _secret(folder: Path, name: str) -> Config:
    return {
        "name": name,
        "sds_config": {
            "path_config_source": {"path": str(folder / f"{name}.json"), "watched_directory": {"path": str(folder)}},
            "resource_api_version": "V3",
        },
    }


def _access_log(path: Path, logged: Mapping[str, str]) -> Config:
    fields = {
        "time": "%START_TIME%",
        "method": "%REQ(:METHOD)%",
        "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
        "protocol": "%PROTOCOL%",
        "code": "%RESPONSE_CODE%",
        "grpc_status": "%GRPC_STATUS(SNAKE_STRING)%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "duration_ms": "%DURATION%",
        "received_bytes": "%BYTES_RECEIVED%",
        "sent_bytes": "%BYTES_SENT%",
        "peer": "%DOWNSTREAM_REMOTE_ADDRESS%",
        "user_agent": "%REQ(USER-AGENT)%",
        "traceparent": "%REQ(TRACEPARENT)%",
        **logged,
    }
    log = typed(
        "envoy.access_loggers.file",
        "access_loggers.file.v3.FileAccessLog",
        {"path": str(path), "log_format": {"json_format": fields}},
    )
    return {**log, "filter": {"not_health_check_filter": {}}}  # those come every few seconds, for ever
