"""The messages of the gRPC contract as classes, from the compiled `.proto` files.

They live in a descriptor pool of their own: protobuf's common pool takes the name `inference.ModelInferRequest` only
once in a process, and `tritonclient` and `kserve` want it too.

    >>> request = messages().ModelReadyRequest(name="digits")
    >>> messages().ModelReadyRequest.FromString(request.SerializeToString()).name
    'digits'
"""

from __future__ import annotations

import importlib.resources
from functools import cache
from types import SimpleNamespace
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"
REFLECTION = "grpc.reflection.v1.ServerReflection"
FILES = ("inference.proto", "health.proto", "reflection.proto")


@cache
def pool() -> descriptor_pool.DescriptorPool:
    """The pool that knows all files."""
    made = descriptor_pool.DescriptorPool()
    data = importlib.resources.files("serving.grpc").joinpath("contract.binpb").read_bytes()
    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        made.Add(file)
    return made


@cache
def messages() -> Any:
    """A namespace with every top-level message class: `messages().ModelInferRequest` and so on."""
    found: dict[str, Any] = {}
    for name in FILES:
        for message in pool().FindFileByName(name).message_types_by_name.values():
            found[message.name] = message_factory.GetMessageClass(message)
    return SimpleNamespace(**found)


def method_path(method: str, service: str = SERVICE) -> str:
    """The path of a method, as it stands on the wire.

    Example:
        >>> method_path("ModelInfer")
        '/inference.GRPCInferenceService/ModelInfer'
    """
    return f"/{service}/{method}"
