"""The filters that a request passes on its way to who answers it, in their order."""

import base64
from collections.abc import Iterable

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.rpc import error_details_pb2

from protos.digits.v1 import digits_pb2
from serving.envoy.parts import Config, typed
from serving.settings import ListenerSettings

_STRANGE_PATHS = {
    "permissions": [{"url_path": {"path": {"safe_regex": {"regex": ".*(%[89A-Fa-f]|[^ -~]).*"}}}}],
    "principals": [{"any": True}],
}
"""Those that are not ASCII: pyvoy reads a path as UTF-8, and never answers one that is none."""


def filters(settings: ListenerSettings) -> Iterable[Config]:
    """What a request passes, in this order; who answers it comes last."""
    if settings.cors_origins:
        yield typed("envoy.filters.http.cors", "filters.http.cors.v3.Cors", {})
    yield typed("envoy.filters.http.grpc_web", "filters.http.grpc_web.v3.GrpcWeb", {})
    yield typed(
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
    yield typed(
        "envoy.filters.http.rbac",
        "filters.http.rbac.v3.RBAC",
        {"rules": {"action": "DENY", "policies": {"no path of ours": _STRANGE_PATHS}}},
    )


def _descriptors() -> bytes:
    """The protos of the service, and of the details of its errors, with all that they import: FileDescriptorSet."""
    protos: dict[str, FileDescriptor] = {}

    def add(file: FileDescriptor) -> None:
        for imported in file.dependencies:
            add(imported)
        protos.setdefault(file.name, file)

    add(digits_pb2.DESCRIPTOR)
    add(error_details_pb2.DESCRIPTOR)
    found = FileDescriptorSet()
    for file in protos.values():
        file.CopyToProto(found.file.add())
    return found.SerializeToString()
