"""Envoy's configuration, made from our settings. `python -m serving serve --print-envoy-config` prints it.

The reference is https://www.envoyproxy.io/docs/envoy/v1.39.3/api-v3/api; a name ending in `.v3.Something` stands there.
"""

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc import code_pb2, error_details_pb2

from protos.digits.v1 import digits_pb2
from serving.config import Settings
from serving.machine import usable_memory_bytes
from serving.transport.port import addresses

Config = dict[str, Any]

ADMIN = "admin.sock"
"""The name of Envoy's admin socket in the folder that it shares with us; nobody else can reach it."""
CERTIFICATE, CLIENT_CA = "certificate", "client_ca"
"""The names of what a TLS listener reads from that folder, and reads again when it changes."""
APP = "serving.transport.envoy.inside:app"
"""What Envoy's Python runs."""
STATS = "http.digits."
"""How the names of the listener's own figures begin."""

NOWHERE = "nowhere"
"""The cluster that routes name: our application answers before any request gets there."""

MAX_HEADERS, MAX_HEADERS_KIB = 100, 32
HEADERS_TIMEOUT_S = 10
"""A client has so long to send a request's headers."""
KEEPALIVE_S, KEEPALIVE_ANSWER_S = 60, 20
"""A silent HTTP/2 connection is asked for a sign of life."""
STREAM_WINDOW_BYTES, CONNECTION_WINDOW_BYTES = 2**20, 2**24
HEAP_SHARE = 0.9
"""Of the memory that there is: near it, first the greediest streams and then new calls are refused."""

_BROWSER_HEADERS = "content-type,x-grpc-web,x-user-agent,grpc-timeout,traceparent"
_EXPOSED_HEADERS = "grpc-status,grpc-message,grpc-status-details-bin,serving-timing"
"""What a page of another origin may send, and may read."""

_LONG_STREAMS = ("/grpc.health.v1.Health/Watch", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
"""They are silent for as long as nothing changes."""

_CALLS = ("/digits.v1.", "/grpc.")
"""How the paths of calls begin, also of those that come as JSON once they are transcoded: no files are looked for."""
_STRANGE_PATHS = {
    "permissions": [{"url_path": {"path": {"safe_regex": {"regex": ".*(%[89A-Fa-f]|[^ -~]).*"}}}}],
    "principals": [{"any": True}],
}
"""Those that are not ASCII: pyvoy reads a path as UTF-8, and never answers one that is none."""
_CODES = {
    400: code_pb2.INVALID_ARGUMENT,
    403: code_pb2.PERMISSION_DENIED,
    404: code_pb2.NOT_FOUND,
    405: code_pb2.UNIMPLEMENTED,
    408: code_pb2.DEADLINE_EXCEEDED,
    413: code_pb2.RESOURCE_EXHAUSTED,
    431: code_pb2.RESOURCE_EXHAUSTED,
    503: code_pb2.UNAVAILABLE,
    504: code_pb2.DEADLINE_EXCEEDED,
}
"""Of what Envoy refuses by an HTTP status."""
_FILES = "envoy.filters.http.file_server"
_STATS = (STATS, "listener.", "listener_manager.workers_started", "server.", "overload.", "sds.")
_CONTENT_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "ico": "image/x-icon",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "png": "image/png",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "woff2": "font/woff2",
}


def envoy_config(settings: Settings, folder: Path) -> Config:
    """All of it; `folder` is where Envoy and this process meet. Raises OSError where `host` is no address."""
    return {
        "node": {"id": "digits", "cluster": "digits"},
        "admin": {"address": {"pipe": {"path": str(folder / ADMIN), "mode": 0o600}}},
        "static_resources": {
            "listeners": [_listener(settings, folder)],
            "clusters": [{"name": NOWHERE, "type": "STATIC"}],
        },
        "overload_manager": _overload_manager(settings),
        "stats_config": {"stats_matcher": {"inclusion_list": {"patterns": [{"prefix": name} for name in _STATS]}}},
    }


def _listener(settings: Settings, folder: Path) -> Config:
    chain: Config = {
        "filters": [
            _typed(
                "envoy.filters.network.http_connection_manager",
                "filters.network.http_connection_manager.v3.HttpConnectionManager",
                _http(settings),
            )
        ]
    }
    if settings.tls_certificate:
        chain["transport_socket"] = _typed(
            "envoy.transport_sockets.tls",
            "transport_sockets.tls.v3.DownstreamTlsContext",
            _tls(folder, asks_for_certificate=settings.tls_client_ca is not None),
        )
    first, *others = _addresses(settings.host, settings.port)
    return {
        "name": "digits",
        "address": first,
        **({"additional_addresses": [{"address": address} for address in others]} if others else {}),
        "filter_chains": [chain],
        "enable_reuse_port": True,
        "per_connection_buffer_limit_bytes": settings.max_message_bytes + 2**16,
    }


def _addresses(host: str, port: int) -> list[Config]:
    """Every address that the name means here."""
    found = dict.fromkeys(address for _, address in addresses(host))
    return [
        {
            "socket_address": {
                "address": address,
                "port_value": port,
                **({"ipv4_compat": True} if address == "::" else {}),
            }
        }
        for address in found
    ]


def _http(settings: Settings) -> Config:
    return {
        "stat_prefix": "digits",
        "codec_type": "AUTO",  # HTTP/1.1 or HTTP/2, as the client begins
        "generate_request_id": False,
        "use_remote_address": True,
        "normalize_path": True,
        "max_request_headers_kb": MAX_HEADERS_KIB,
        "request_headers_timeout": _duration(HEADERS_TIMEOUT_S),
        "request_timeout": _duration(settings.request_timeout_s),
        "stream_idle_timeout": _duration(settings.request_timeout_s),
        "common_http_protocol_options": {
            "idle_timeout": _duration(settings.idle_timeout_s),
            "max_headers_count": MAX_HEADERS,
        },
        "http2_protocol_options": {
            "max_concurrent_streams": settings.max_concurrent_streams,
            "initial_stream_window_size": STREAM_WINDOW_BYTES,
            "initial_connection_window_size": CONNECTION_WINDOW_BYTES,
            "connection_keepalive": {
                "interval": _duration(KEEPALIVE_S),
                "timeout": _duration(KEEPALIVE_ANSWER_S),
            },
        },
        "http_filters": list(_filters(settings)),
        "route_config": {"virtual_hosts": [_virtual_host(settings)]},
        "local_reply_config": {"mappers": list(_own_words())},
        **({"access_log": [_access_log(settings.access_log)]} if settings.access_log else {}),
    }


def _filters(settings: Settings) -> Iterable[Config]:
    """What a request passes, in this order; the last one is our application."""
    if settings.cors_origins:
        yield _typed("envoy.filters.http.cors", "filters.http.cors.v3.Cors", {})
    yield _typed("envoy.filters.http.grpc_web", "filters.http.grpc_web.v3.GrpcWeb", {})
    yield _typed(
        "envoy.filters.http.grpc_json_transcoder",
        "filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        {
            "proto_descriptor_bin": base64.b64encode(_descriptors()).decode(),
            "services": [digits_pb2.DESCRIPTOR.services_by_name["DigitService"].full_name],
            "convert_grpc_status": True,
            "print_options": {"always_print_primitive_fields": True, "preserve_proto_field_names": True},
            "max_request_body_size": settings.max_message_bytes,
            "max_response_body_size": settings.max_message_bytes,
        },
    )
    if settings.static_files:
        yield {"name": _FILES, "typed_config": {**_files(settings.static_files), "path_mappings": []}}
    yield _typed(
        "envoy.filters.http.rbac",
        "filters.http.rbac.v3.RBAC",
        {"rules": {"action": "DENY", "policies": {"no path of ours": _STRANGE_PATHS}}},
    )
    yield _typed(
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


def _own_words() -> Iterable[Config]:
    """What Envoy itself refuses is told as our errors are to who does not speak gRPC: google.rpc.Status in JSON."""
    is_grpc = {"name": "content-type", "string_match": {"prefix": "application/grpc"}}
    was_json = {"name": "x-envoy-original-path", "present_match": True}
    is_not_grpc = {**is_grpc, "invert_match": True, "treat_missing_header_as_empty": True}
    speaks_http = {"or_filter": {"filters": [{"header_filter": {"header": one}} for one in (is_not_grpc, was_json)]}}
    for http_status, code in _CODES.items():
        compared = {"op": "EQ", "value": {"default_value": http_status, "runtime_key": "none"}}
        condition = {"and_filter": {"filters": [{"status_code_filter": {"comparison": compared}}, speaks_http]}}
        yield {"filter": condition, "body_format_override": _status_as_json(code)}
    yield {"filter": speaks_http, "body_format_override": _status_as_json(code_pb2.UNKNOWN)}


def _status_as_json(code: int) -> Config:
    return {"json_format": {"code": code, "message": "%LOCAL_REPLY_BODY%", "details": []}}


def _files(folder: Path) -> Config:
    """What is served from a folder: on its own for the routes that have it, since it takes every path."""
    return {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.file_server.v3.FileServerConfig",
        "manager_config": {"thread_pool": {"thread_count": 1}},
        "path_mappings": [{"request_path_prefix": "/", "file_path_prefix": str(folder.resolve())}],
        "directory_behaviors": [{"default_file": "index.html"}],
        "content_types": _CONTENT_TYPES,
        "default_content_type": "application/octet-stream",
    }


def _virtual_host(settings: Settings) -> Config:
    """No request goes anywhere from here: routes are where the timeouts of single paths and the origins stand."""
    nowhere = {"cluster": NOWHERE}
    others: Config = {"match": {"prefix": "/"}, "route": nowhere}
    host: Config = {
        "name": "digits",
        "domains": ["*"],
        "routes": [
            *({"match": {"path": path}, "route": {**nowhere, "idle_timeout": "0s"}} for path in _LONG_STREAMS),
            *({"match": {"prefix": prefix}, "route": nowhere} for prefix in _CALLS),
            {"match": {"prefix": "/", "grpc": {}}, "route": nowhere},
            others,
        ],
    }
    if settings.static_files:
        others["typed_per_filter_config"] = {_FILES: _files(settings.static_files)}
    if settings.cors_origins:
        host["typed_per_filter_config"] = {
            "envoy.filters.http.cors": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
                "allow_origin_string_match": [
                    {"safe_regex": {"regex": ".*"}} if origin == "*" else {"exact": origin}
                    for origin in map(str.strip, settings.cors_origins.split(","))
                ],
                "allow_methods": "GET,POST",
                "allow_headers": _BROWSER_HEADERS,
                "expose_headers": _EXPOSED_HEADERS,
                "max_age": "86400",
            }
        }
    return host


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


def _access_log(path: Path) -> Config:
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
    }
    return _typed(
        "envoy.access_loggers.file",
        "access_loggers.file.v3.FileAccessLog",
        {"path": str(path), "log_format": {"json_format": fields}},
    )


def _overload_manager(settings: Settings) -> Config:
    """More connections than allowed are closed at once; near the end of the memory, new calls are refused.

    What Envoy counts is what the whole process has allocated, models and Python's objects too.
    """
    max_heap_bytes = int(HEAP_SHARE * usable_memory_bytes() / settings.workers)
    heap = "envoy.resource_monitors.fixed_heap"
    connections = "envoy.resource_monitors.global_downstream_max_connections"
    return {
        "refresh_interval": _duration(0.25),
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": 20},
        "resource_monitors": [
            _typed(heap, "resource_monitors.fixed_heap.v3.FixedHeapConfig", {"max_heap_size_bytes": max_heap_bytes}),
            _typed(
                connections,
                "resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                {"max_active_downstream_connections": settings.max_connections},
            ),
        ],
        "actions": [
            {
                "name": "envoy.overload_actions.reset_high_memory_stream",
                "triggers": [
                    {"name": heap, "scaled": {"scaling_threshold": 0.85, "saturation_threshold": 0.95}},
                ],
            },
            {
                "name": "envoy.overload_actions.stop_accepting_requests",
                "triggers": [{"name": heap, "threshold": {"value": 0.95}}],
            },
        ],
    }


def _descriptors() -> bytes:
    """The protos of the service, and of the details of its errors, with all that they import: FileDescriptorSet."""
    files: dict[str, FileDescriptor] = {}

    def add(file: FileDescriptor) -> None:
        for imported in file.dependencies:
            add(imported)
        files.setdefault(file.name, file)

    add(digits_pb2.DESCRIPTOR)
    add(error_details_pb2.DESCRIPTOR)
    found = FileDescriptorSet()
    for file in files.values():
        file.CopyToProto(found.file.add())
    return found.SerializeToString()


def _module() -> Path:
    """The library of pyvoy that Envoy loads."""
    import pyvoy  # here, since it is Linux's alone

    return Path(pyvoy.__file__).parent / "_pyvoy.abi3.so"


def _typed(name: str, kind: str, content: Config) -> Config:
    kind = f"type.googleapis.com/envoy.extensions.{kind}"
    return {"name": name, "typed_config": {"@type": kind, **content}}


def _duration(seconds: float) -> str:
    return f"{seconds:g}s"
