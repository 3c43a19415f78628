"""`grpc.reflection`: clients that carry no `.proto` files (grpcurl, Postman) ask the server what it speaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from serving.grpc.messages import FILES, REFLECTION, messages, method_path, pool

_V1ALPHA = REFLECTION.replace(".v1.", ".v1alpha.")
REFLECT = frozenset(method_path("ServerReflectionInfo", service) for service in (REFLECTION, _V1ALPHA))
_INVALID_ARGUMENT, _NOT_FOUND, _UNIMPLEMENTED = 3, 5, 12


class ReflectionStream:
    """One call of ServerReflectionInfo. Every question is answered at once.

    Args:
        send: Called with every answer, in the order of the questions.
    """

    in_flight = 0  # as of `serving.grpc.stream.InferStream`

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send

    def take(self, body: bytes) -> None:
        """A question has come."""
        self._send(reflect(body))

    def cancel(self) -> None:
        """The client is gone."""


def reflect(body: bytes) -> bytes:
    """The answer to one question; what is unknown, or no question, is an answer too."""
    kinds = messages()
    answer = kinds.ServerReflectionResponse()
    try:
        request = kinds.ServerReflectionRequest.FromString(body)
    except DecodeError:
        _fail(answer, _INVALID_ARGUMENT, "request: not a valid ServerReflectionRequest message")
        return bytes(answer.SerializeToString())
    answer.valid_host = request.host
    answer.original_request.CopyFrom(request)
    asked = request.WhichOneof("message_request")
    if asked == "list_services":
        names = sorted(name for file in FILES for name in _services(file))
        answer.list_services_response.service.extend(kinds.ServiceResponse(name=name) for name in names)
    elif asked in ("file_by_filename", "file_containing_symbol"):
        _describe(answer, asked, getattr(request, asked))
    elif asked is None:
        _fail(answer, _INVALID_ARGUMENT, "request: it asks for nothing")
    else:
        _fail(answer, _UNIMPLEMENTED, "the contract has no extensions")
    return bytes(answer.SerializeToString())


def _services(file: str) -> list[str]:
    return [service.full_name for service in pool().FindFileByName(file).services_by_name.values()]


def _describe(answer: Any, asked: str, name: str) -> None:
    known = pool()
    try:
        find = known.FindFileByName if asked == "file_by_filename" else known.FindFileContainingSymbol
        file = find(name)
    except KeyError:
        _fail(answer, _NOT_FOUND, f"'{name[:128]}' is not part of the contract")
        return
    answer.file_descriptor_response.file_descriptor_proto.append(file.serialized_pb)


def _fail(answer: Any, code: int, text: str) -> None:
    answer.error_response.error_code = code
    answer.error_response.error_message = text
