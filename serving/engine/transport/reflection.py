"""grpc.reflection, v1 and v1alpha, whose messages are the same on the wire."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from google.protobuf.message import Message
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from serving.engine.transport.rpc import Request, Role, Stream

SERVICES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


def reflection_methods(names: Sequence[str]) -> list[Stream]:
    """The methods that describe the services of these full names, and themselves."""
    servicer = reflection.aio.ReflectionServicer([*names, *SERVICES])

    async def describe(contents: AsyncIterator[bytes], _request: Request) -> AsyncGenerator[bytes, None]:
        requests = (ServerReflectionRequest.FromString(content) async for content in contents)
        response: Message
        async for response in servicer.ServerReflectionInfo(requests, None):
            yield response.SerializeToString()

    return [Stream(f"/{service}/ServerReflectionInfo", describe, Role.PUBLIC) for service in SERVICES]
