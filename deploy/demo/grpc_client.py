"""The story's client that speaks gRPC: `ModelInfer` of the Open Inference Protocol over one channel."""

from __future__ import annotations

import grpc
import numpy as np

from deploy.demo.pictures import Shown
from serving.grpc.messages import messages, method_path

TIMEOUT_S = 30.0


class GrpcClient:
    """One channel.

    Args:
        address: Host and port.
        model: Which model to ask.
        token: Bearer token, when serving asks for one.
    """

    def __init__(self, address: str, model: str, token: str | None = None) -> None:
        self._model = model
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        self._channel = grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)])
        kinds = messages()
        self._infer = self._channel.unary_unary(
            method_path("ModelInfer"),
            request_serializer=kinds.ModelInferRequest.SerializeToString,
            response_deserializer=kinds.ModelInferResponse.FromString,
        )

    async def ask(self, shown: Shown, identity: str) -> tuple[str, int]:
        """The version that answered, and its class.

        Raises:
            RuntimeError: any status but OK.
            ValueError: it is no whole answer.
        """
        request = messages().ModelInferRequest(model_name=self._model, id=identity)
        request.inputs.add(name="image", datatype="FP32", shape=shown.image.shape)
        request.raw_input_contents.append(shown.image.astype("<f4").tobytes())
        request.outputs.add(name="logits")
        try:
            answer = await self._infer(request, timeout=TIMEOUT_S, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise RuntimeError(f"{error.code().name}: {error.details()}") from None
        logits = np.frombuffer(answer.raw_output_contents[0], dtype="<f4")
        if logits.shape != (10,):
            raise ValueError(f"{logits.size} logits instead of 10")
        return str(answer.model_version), int(np.argmax(logits))

    async def close(self) -> None:
        """End the channel."""
        await self._channel.close()
