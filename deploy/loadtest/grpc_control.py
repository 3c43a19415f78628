"""The questions of `control`, over gRPC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import grpc

from deploy.errors import CommandError, Missing, NotRunning
from deploy.loadtest.control import TOKEN_HINT, ServerFacts, read_facts
from deploy.loadtest.http_wire import Encoding, raw_bytes
from deploy.loadtest.parsing import Target
from deploy.loadtest.statistics import Counters, add_up
from deploy.loadtest.tensors import Payload
from serving.grpc.messages import messages, method_path

_TIMEOUT_S = 10.0
_MOST_BYTES = 1 << 30


class GrpcControl:
    """See `control.Control`."""

    def __init__(self, target: Target, model: str, version: str | None, headers: Mapping[str, str]) -> None:
        self._target = target
        self._model = model
        self._version = version or ""
        self._metadata = tuple((name.lower(), value) for name, value in headers.items())
        host = f"[{target.host}]" if ":" in target.host else target.host
        options = [
            ("grpc.max_receive_message_length", _MOST_BYTES),
            ("grpc.max_send_message_length", _MOST_BYTES),
            ("grpc.enable_http_proxy", 0),
        ]
        address = f"{host}:{target.port}"
        self._channel: Any = (
            grpc.secure_channel(address, grpc.ssl_channel_credentials(), options)
            if target.tls
            else grpc.insecure_channel(address, options)
        )
        self._has_statistics = True

    def facts(self) -> ServerFacts:
        """See `control.Control.facts`."""
        try:
            server = self._call("ServerMetadata", messages().ServerMetadataRequest())
            metadata = self._call(
                "ModelMetadata", messages().ModelMetadataRequest(name=self._model, version=self._version)
            )
        except grpc.RpcError as error:
            raise self._explained(error) from None
        plain = {
            "versions": list(metadata.versions),
            "inputs": [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in metadata.inputs],
            "outputs": [{"name": t.name} for t in metadata.outputs],
        }
        about = {"name": server.name, "version": server.version, "extensions": list(server.extensions)}
        try:
            return read_facts(about, plain)
        except (KeyError, TypeError, ValueError) as error:
            raise CommandError(f"the metadata of '{self._model}' is not the protocol's: {error}") from None

    def prepare(self, payload: Payload, encoding: Encoding, outputs: Sequence[str]) -> bytes:
        """See `control.Control.prepare`; tensors always travel as raw contents."""
        encoded: bytes = self._request(payload, outputs).SerializeToString()
        return encoded

    def try_once(self, payload: Payload, encoding: Encoding, outputs: Sequence[str]) -> None:
        """See `control.Control.try_once`."""
        try:
            self._call("ModelInfer", self._request(payload, outputs))
        except grpc.RpcError as error:
            known = self._explained(error)
            if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
                raise known from None
            raise CommandError(
                f"a first request is refused with {error.code().name}: {error.details()}",
                "--shape, --batch and --input-data decide what is sent",
            ) from None

    def counters(self) -> Counters | None:
        """See `control.Control.counters`."""
        if not self._has_statistics:
            return None
        asked = messages().ModelStatisticsRequest(name=self._model, version=self._version)
        try:
            found = self._call("ModelStatistics", asked)
        except grpc.RpcError as error:
            self._has_statistics = error.code() in (
                grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.DEADLINE_EXCEEDED,
                grpc.StatusCode.RESOURCE_EXHAUSTED,
            )
            return None
        return add_up(_counters(entry) for entry in found.model_stats)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def _request(self, payload: Payload, outputs: Sequence[str]) -> Any:
        kind = messages().ModelInferRequest
        request = kind(model_name=self._model, model_version=self._version)
        for tensor in payload.tensors:
            request.inputs.add(name=tensor.name, datatype=tensor.datatype.value, shape=tensor.array.shape)
            request.raw_input_contents.append(raw_bytes(tensor))
        for name in outputs:
            request.outputs.add(name=name)
        return request

    def _call(self, method: str, request: Any) -> Any:
        answer = getattr(messages(), f"{method}Response")
        ask = self._channel.unary_unary(
            method_path(method),
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        return ask(request, timeout=_TIMEOUT_S, metadata=self._metadata)

    def _explained(self, error: Any) -> CommandError:
        code, details = error.code(), error.details()
        address = self._target.address
        if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            return CommandError(f"the server asks for a credential ({code.name})", TOKEN_HINT)
        if code is grpc.StatusCode.NOT_FOUND or (code is grpc.StatusCode.INVALID_ARGUMENT and "model" in details):
            return Missing(f"{address} has no model '{self._model}': {details}")
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            return NotRunning(f"no answer from {address}", "is the server up, and is this its gRPC port?")
        return CommandError(f"{address} answers {code.name}: {details}")


def _counters(entry: Any) -> Counters:
    stats = entry.inference_stats
    return Counters(
        success=stats.success.count,
        failed=stats.fail.count,
        success_ns=stats.success.ns,
        queue_ns=stats.queue.ns,
        input_ns=stats.compute_input.ns,
        infer_ns=stats.compute_infer.ns,
        output_ns=stats.compute_output.ns,
        inferences=entry.inference_count,
        executions=entry.execution_count,
        cache_hits=stats.cache_hit.count,
        cache_misses=stats.cache_miss.count,
    )
