"""Describes the service's HTTP/JSON interface in OpenAPI 3.1, made of the protos and their comments. `make protos`.

What a field becomes in JSON: https://protobuf.dev/programming-guides/json. What Envoy makes of `google.api.http`:
https://www.envoyproxy.io/docs/envoy/v1.39.3/configuration/http/http_filters/grpc_json_transcoder_filter
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
)

ROOT = Path(__file__).parents[1]
PROTO = "protos/digits/v1/digits.proto"
DESTINATION = ROOT / "serving" / "page" / "openapi.json"

Schema = dict[str, Any]
Path_ = tuple[int, ...]

MESSAGE, SERVICE, FIELD, METHOD = 4, 6, 2, 2
"""The numbers of FileDescriptorProto's and DescriptorProto's fields, of which the paths of comments are made."""

SCALARS: Mapping[int, Schema] = {
    FieldDescriptorProto.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptorProto.TYPE_BYTES: {"type": "string", "format": "byte"},
    FieldDescriptorProto.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptorProto.TYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptorProto.TYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptorProto.TYPE_STRING: {"type": "string"},
}
WELL_KNOWN: Mapping[str, Schema] = {".google.protobuf.Timestamp": {"type": "string", "format": "date-time"}}

STATUS: Schema = {
    "type": "object",
    "description": "google.rpc.Status: why a request was refused. docs/errors.md lists the reasons.",
    "required": ["code", "message"],
    "properties": {
        "code": {"type": "integer", "format": "int32", "description": "A code of gRPC, such as 3, INVALID_ARGUMENT."},
        "message": {"type": "string", "description": "What was wrong, what was expected, and what to do."},
        "details": {
            "type": "array",
            "description": "ErrorInfo, BadRequest, RetryInfo, each with its @type.",
            "items": {"type": "object"},
        },
    },
}


def describe(file: FileDescriptorProto) -> Schema:
    """The whole interface of a file with one service."""
    comments = {tuple(place.path): _text(place.leading_comments) for place in file.source_code_info.location}
    (service,) = file.service
    schemas = {
        message.name: _message(message, (MESSAGE, number), comments) for number, message in enumerate(file.message_type)
    }
    paths: dict[str, Schema] = {}
    for number, method in enumerate(service.method):
        for verb, path, operation in _operations(method, comments[SERVICE, 0, METHOD, number], schemas):
            paths.setdefault(path, {})[verb] = operation
    paths["/healthz"] = {"get": _health()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"{file.package}.{service.name}",
            "version": "1",
            "description": comments[SERVICE, 0],
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": {**schemas, "Status": STATUS}},
    }


def _operations(
    method: MethodDescriptorProto, text: str, schemas: Mapping[str, Schema]
) -> Iterator[tuple[str, str, Schema]]:
    rule = method.options.Extensions[annotations_pb2.http]
    for count, binding in enumerate((rule, *rule.additional_bindings)):
        verb = str(binding.WhichOneof("pattern"))
        path = str(getattr(binding, verb))
        operation: Schema = {
            "operationId": method.name if not count else f"{method.name}{count + 1}",
            "summary": _first_sentence(text),
            "description": text,
            "responses": {
                "200": {"description": "The answer.", "content": _json(_ref(method.output_type))},
                "default": {"description": "A refusal.", "content": _json({"$ref": "#/components/schemas/Status"})},
            },
        }
        if binding.body:
            operation["requestBody"] = {"required": True, "content": _json(_ref(method.input_type))}
        elif parameters := list(_parameters(schemas[method.input_type.rpartition(".")[2]], path)):
            operation["parameters"] = parameters
        yield verb, path, operation


def _parameters(request: Schema, path: str) -> Iterator[Schema]:
    """The fields of a request without a body: in the path, or else in the query."""
    for name, schema in request["properties"].items():
        in_path = f"{{{name}}}" in path
        yield {
            "name": name,
            "in": "path" if in_path else "query",
            "required": in_path,
            "description": schema["description"],
            "schema": {key: value for key, value in schema.items() if key != "description"},
        }


def _message(message: DescriptorProto, place: Path_, comments: Mapping[Path_, str]) -> Schema:
    properties = {
        field.name: {**_field(field), "description": comments[*place, FIELD, number]}
        for number, field in enumerate(message.field)
    }
    return {"type": "object", "description": comments[place], "properties": properties}


def _field(field: FieldDescriptorProto) -> Schema:
    schema = dict(SCALARS[field.type]) if field.type in SCALARS else _ref(field.type_name)
    return {"type": "array", "items": schema} if field.label == FieldDescriptorProto.LABEL_REPEATED else schema


def _ref(type_name: str) -> Schema:
    return dict(WELL_KNOWN.get(type_name) or {"$ref": f"#/components/schemas/{type_name.rpartition('.')[2]}"})


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _health() -> Schema:
    """What no proto describes: health, for those who do not speak gRPC."""
    return {
        "operationId": "Health",
        "summary": "Whether calls are answered now.",
        "responses": {"200": {"description": "They are."}, "503": {"description": "They are not."}},
    }


def _text(comment: str) -> str:
    return re.sub(r"\s+", " ", comment).strip()


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=\.)\s", text, maxsplit=1)[0]


def read_proto(path: str = PROTO) -> FileDescriptorProto:
    """A proto of ours with its comments, as protoc reads it."""
    google = Path(annotations_pb2.__file__).parents[2]
    with TemporaryDirectory() as folder:
        found = Path(folder) / "found.binpb"
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT}", f"-I{google}", "--include_source_info"]
        subprocess.run([*command, "-o", str(found), path], cwd=ROOT, check=True)
        (file,) = FileDescriptorSet.FromString(found.read_bytes()).file
    return file


def as_text(description: Schema) -> str:
    """As it lies in the repository."""
    return json.dumps(description, indent=1) + "\n"


if __name__ == "__main__":
    argparse.ArgumentParser(description="Write serving/page/openapi.json, made of the protos.").parse_args()
    DESTINATION.write_text(as_text(describe(read_proto())))
