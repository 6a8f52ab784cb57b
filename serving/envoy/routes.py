"""Which paths there are, who may call them from a page, and how Envoy says that it refuses a request itself."""

from collections.abc import Iterable, Mapping

from google.rpc import code_pb2

from serving.envoy.parts import Config
from serving.settings import ListenerSettings

HEALTH_PAGE = "/healthz"
"""Where who does not speak gRPC asks whether this server serves."""

_CALLS = ("/digits.v1.", "/grpc.")
"""How the paths of calls begin, also of those that come as JSON once they are transcoded."""

_LONG_STREAMS = ("/grpc.health.v1.Health/Watch", "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
"""They are silent for as long as nothing changes."""

_BROWSER_HEADERS = "content-type,x-grpc-web,x-user-agent,grpc-timeout,traceparent"
_EXPOSED_HEADERS = "grpc-status,grpc-message,grpc-status-details-bin,serving-timing"
"""What a page of another origin may send, and may read."""

_CODES = {
    400: code_pb2.INVALID_ARGUMENT,
    403: code_pb2.PERMISSION_DENIED,
    404: code_pb2.NOT_FOUND,
    405: code_pb2.UNIMPLEMENTED,
    408: code_pb2.DEADLINE_EXCEEDED,
    413: code_pb2.RESOURCE_EXHAUSTED,
    429: code_pb2.RESOURCE_EXHAUSTED,
    431: code_pb2.RESOURCE_EXHAUSTED,
    503: code_pb2.UNAVAILABLE,
    504: code_pb2.DEADLINE_EXCEEDED,
}
"""Of what Envoy refuses by an HTTP status."""


def virtual_host(settings: ListenerSettings, *, call: Config, other: Config, pages: Iterable[Config] = ()) -> Config:
    """Where calls go, for long streams without their timeouts; routes of pages; and where everything else goes."""
    stream = {**call, "route": {**call["route"], "timeout": "0s", "idle_timeout": "0s"}}
    host: Config = {
        "name": "digits",
        "domains": ["*"],
        "routes": [
            *({"match": {"path": path}, **stream} for path in _LONG_STREAMS),
            *({"match": {"prefix": prefix}, **call} for prefix in _CALLS),
            {"match": {"path": HEALTH_PAGE}, **other},
            {"match": {"prefix": "/", "grpc": {}}, **call},
            *pages,
            {"match": {"prefix": "/"}, **other},
        ],
    }
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


def own_words(flags: Mapping[str, str]) -> Iterable[Config]:
    """What Envoy itself refuses is told as our errors are to who does not speak gRPC: google.rpc.Status in JSON.

    `flags` has what is said, to everybody, in place of Envoy's own words where it refuses for one of its reasons, such
    as UH: https://www.envoyproxy.io/docs/envoy/v1.39.3/configuration/observability/access_log/usage
    """
    is_grpc = {"name": "content-type", "string_match": {"prefix": "application/grpc"}}
    was_json = {"name": "x-envoy-original-path", "present_match": True}
    is_not_grpc = {**is_grpc, "invert_match": True, "treat_missing_header_as_empty": True}
    speaks_http = {"or_filter": {"filters": [{"header_filter": {"header": one}} for one in (is_not_grpc, was_json)]}}
    for flag, text in flags.items():
        is_so: Config = {"response_flag_filter": {"flags": [flag]}}
        said: Config = {"body": {"inline_string": text}}
        yield {
            "filter": _both(is_so, speaks_http),
            **said,
            "body_format_override": _status_as_json(code_pb2.UNAVAILABLE),
        }
        yield {"filter": is_so, **said}
    for http_status, code in _CODES.items():
        yield {"filter": _both(_status("EQ", http_status), speaks_http), "body_format_override": _status_as_json(code)}
    yield {"filter": _both(_status("GE", 400), speaks_http), "body_format_override": _status_as_json(code_pb2.UNKNOWN)}


def _both(*conditions: Config) -> Config:
    return {"and_filter": {"filters": list(conditions)}}


def _status(op: str, http_status: int) -> Config:
    value = {"default_value": http_status, "runtime_key": "none"}
    return {"status_code_filter": {"comparison": {"op": op, "value": value}}}


def _status_as_json(code: int) -> Config:
    return {"json_format": {"code": code, "message": "%LOCAL_REPLY_BODY%", "details": []}}
