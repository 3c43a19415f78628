# Runs in `.venvs/kserve`, which has nothing of ours.
# mypy: ignore-errors
"""The unmodified KServe Python client, REST and gRPC, against one server; prints what it saw as one line of JSON.

.venvs/kserve/bin/python tests/support/kserve_driver.py HTTP_URL GRPC_TARGET
"""

from __future__ import annotations

import asyncio
import json
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig


def request(model: str, x: np.ndarray, *, binary: bool, request_id: str = "k1") -> InferRequest:
    """An inference request of one FP32 input."""
    one = InferInput(name="x", shape=list(x.shape), datatype="FP32")
    one.set_data_from_numpy(x, binary_data=binary)
    return InferRequest(model_name=model, infer_inputs=[one], request_id=request_id)


def seen(answer) -> dict:
    """What an answer says, as plain values."""
    first = answer.outputs[0]
    return {
        "id": answer.id,
        "model": answer.model_name,
        "name": first.name,
        "values": first.as_numpy().tolist(),
    }


async def main(url: str, target: str) -> dict:
    """Everything that both clients can do."""
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = {}
    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as rest:
        found["rest"] = {
            "live": await rest.is_server_live(url),
            "ready": await rest.is_server_ready(url),
            "model": await rest.is_model_ready(url, "varlen"),
            "json": seen(await rest.infer(url, request("varlen", x, binary=False), model_name="varlen")),
            "binary": seen(await rest.infer(url, request("varlen", x, binary=True), model_name="varlen")),
        }
        try:
            await rest.infer(url, request("nothing", x, binary=False), model_name="nothing")
        except Exception as error:
            found["rest"]["error"] = str(error)
    async with InferenceGRPCClient(target, retries=0) as grpc:
        found["grpc"] = {
            "live": await grpc.is_server_live(),
            "ready": await grpc.is_server_ready(),
            "model": await grpc.is_model_ready("varlen"),
            "typed": seen(await grpc.infer(request("varlen", x, binary=False))),
            "raw": seen(await grpc.infer(request("varlen", x, binary=True))),
        }
        many = await asyncio.gather(*[grpc.infer(request("varlen", x + n, binary=True)) for n in range(50)])
        found["grpc"]["many"] = [answer.outputs[0].as_numpy().tolist() for answer in many]
        try:
            await grpc.infer(request("nothing", x, binary=True))
        except Exception as error:
            found["grpc"]["error"] = str(error)
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
