"""The gRPC service, free of any gRPC server: paths and message bytes in, message bytes or a status out.

Two servers offer it, `serving.grpc.lane` and, on grpcio's, `serving.grpc.aio`; no answer depends on which.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from export.contracts.errors import (
    HardcaseError,
    InvalidRequest,
    NotSupported,
    PayloadTooLarge,
    Unauthenticated,
)
from serving.call import ANONYMOUS, Call, Transport
from serving.dataplane import DataPlane
from serving.entry import Entry, Reply
from serving.grpc.control import ControlMethods
from serving.grpc.health import watch
from serving.grpc.messages import HEALTH, messages, method_path
from serving.grpc.parser import decoded
from serving.grpc.scan import InferMessage, scan

INFER = method_path("ModelInfer")
STREAM_INFER = method_path("ModelStreamInfer")
WATCH = method_path("Watch", HEALTH)
# Methods that answer without a credential, as `app_boundary.OPEN_PATHS` over HTTP: they tell nothing but yes or no.
OPEN_METHODS = frozenset({method_path("ServerLive"), method_path("ServerReady"), method_path("Check", HEALTH)})
_CALLS_KEPT = 1024
_CALL_KEY_BYTES = 4096


BytesHandler = Callable[[bytes], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a call's metadata says; equal metadata may share one.

    Attributes:
        caller: Name of the API key.
        sticky, traceparent, tracestate: As in `Call`.
        special: Whether any of those is there.
    """

    caller: str = ANONYMOUS
    sticky: bytes | None = None
    traceparent: bytes | None = None
    tracestate: bytes | None = None

    @property
    def special(self) -> bool:
        """Whether the call needs a head of its own."""
        return self.sticky is not None or self.traceparent is not None


class GrpcService:
    """Everything that the methods do.

    Args:
        plane: Answers the inference requests.
        extra: More methods by path, from message bytes to message bytes; open to all.
    """

    def __init__(self, plane: DataPlane, extra: Mapping[str, BytesHandler] | None = None) -> None:
        self._extra = dict(extra or {})
        self._open = OPEN_METHODS | self._extra.keys()
        self.plane = plane
        # Metadata that means something here; the rest is the client library's.
        self.wanted_keys = frozenset({b"authorization", b"traceparent", b"tracestate", plane.sticky_header})
        self._body_bytes = plane.options.limits.body_bytes
        self._calls: dict[bytes, Call] = {}
        self._messages = messages()
        self._unary = ControlMethods(plane).table()

    # who may pass, and what is there

    def metadata(self, path: str, given: Mapping[bytes, bytes]) -> Metadata:
        """Check a call's credential, and pick what the data plane wants to know.

        Args:
            path: The method.
            given: Metadata by lower-case key; of a repeated key the last value.

        Raises:
            Unauthenticated: the method needs a credential, and this is none.
        """
        auth = self.plane.auth
        caller = ANONYMOUS
        if auth.enabled and path not in self._open:
            try:
                caller = auth.check(given.get(b"authorization"))
            except Unauthenticated:
                self.plane.stats.unauthenticated += 1
                raise
        if len(given) == 0:
            return PLAIN if caller == ANONYMOUS else Metadata(caller)
        return Metadata(
            caller, given.get(self.plane.sticky_header), given.get(b"traceparent"), given.get(b"tracestate")
        )

    # inference

    def infer(self, body: bytes, metadata: Metadata, reply: Reply, timeout_ns: int = 0) -> Entry:
        """Take one ModelInferRequest; its answer's body is the ModelInferResponse.

        Args:
            body: The message.
            metadata: The call's.
            reply: As for `DataPlane.accept`.
            timeout_ns: What is left of the caller's deadline; 0 for none.

        Raises:
            HardcaseError: refused, counted and recorded.
        """
        message = scan(body)
        message.timeout_ns = timeout_ns
        if len(body) > self._body_bytes:
            self._refuse_large(message)
        call = self._calls.get(message.head) if message.head is not None else None
        if call is None:
            call = self._read_call(message)
        if metadata.special:
            call = Call(
                model=call.model,
                version=call.version,
                transport=Transport.GRPC,
                sticky=metadata.sticky,
                traceparent=metadata.traceparent,
                tracestate=metadata.tracestate,
            )
        return self.plane.accept(call, message, reply, metadata.caller)

    def refuse(self, metadata: Metadata, error: HardcaseError) -> None:
        """Count and record a request that will never be whole; which model it was for is not known."""
        self.plane.refuse(Call(model="", transport=Transport.GRPC), error, metadata.caller)

    def _refuse_large(self, message: InferMessage) -> None:
        """For servers whose own limit is another one.

        Raises:
            PayloadTooLarge: always; counted for the model that the message names.
        """
        error = PayloadTooLarge(f"request: the message is over the limit of {self._body_bytes} bytes")
        self.plane.refuse(self._read_call(message), error)
        raise error

    def _read_call(self, message: InferMessage) -> Call:
        try:
            plain = decoded(message)
        except InvalidRequest as error:
            self.plane.refuse(Call(model="", transport=Transport.GRPC), error)
            raise
        call = Call(model=plain.model_name, version=plain.model_version or None, transport=Transport.GRPC)
        if message.raws and message.head is not None and len(message.head) <= _CALL_KEY_BYTES:
            if len(self._calls) >= _CALLS_KEPT:
                self._calls.clear()
            self._calls[message.head] = call
        return call

    # everything else

    async def unary(self, path: str, body: bytes) -> bytes:
        """Answer a method that is not inference.

        Raises:
            NotSupported: there is no such method here.
            HardcaseError: what the method itself refuses.
        """
        found = self._unary.get(path)
        if found is None and path in self._extra:
            return await self._extra[path](body)
        if found is None:
            raise NotSupported("this server has no such method")
        kind, handler = found
        try:
            request = kind.FromString(body)
        except DecodeError:
            raise InvalidRequest(f"request: not a valid {kind.DESCRIPTOR.name} message") from None
        answer = await handler(request)
        data: bytes = answer.SerializeToString()
        return data

    def watch_health(self, body: bytes) -> AsyncIterator[bytes]:
        """The answers of `grpc.health.v1.Health/Watch`, without an end.

        Raises:
            InvalidRequest: the message is none.
        """
        try:
            request = self._messages.HealthCheckRequest.FromString(body)
        except DecodeError:
            raise InvalidRequest("request: not a valid HealthCheckRequest message") from None
        return watch(self.plane.pool, request.service)


PLAIN = Metadata()
