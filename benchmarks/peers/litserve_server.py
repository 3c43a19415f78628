# Its libraries are only in the environment that it runs in.
# mypy: ignore-errors
"""The model in LitServe, written for speed as its documentation shows: batching, its ZeroMQ queue, one worker.

Runs in an environment of its own (`.venvs/litserve`). No postponed annotations here: LitServe hands them to FastAPI.
"""

import argparse
import os
from typing import Annotated, Any

import litserve
import numpy as np
import onnxruntime
from fastapi import Body, Response

MAX_BATCH = 64


class _Digits(litserve.LitAPI):
    def setup(self, device: str) -> None:
        """Load the session in the worker process."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"]
        )

    def batch(self, inputs: list[Any]) -> Any:
        """Rows to (batch, 1, 8, 8)."""
        return np.stack(inputs)

    def predict(self, x: Any) -> Any:
        """(batch, 1, 8, 8) → (batch, 10)."""
        return self.session.run(["logits"], {"x": x})[0]

    def unbatch(self, output: Any) -> list[Any]:
        """One row of logits a request."""
        return list(output)


class DigitsBinary(_Digits):
    """Raw float32 in, raw float32 out."""

    def decode_request(self, request: Annotated[bytes, Body(media_type="application/octet-stream")]) -> Any:
        """Body to row."""
        return np.frombuffer(request, dtype=np.float32).reshape(1, 8, 8)

    def encode_response(self, output: Any) -> Response:
        """Row of logits to body."""
        return Response(content=output.tobytes(), media_type="application/octet-stream")


class DigitsJson(_Digits):
    """The documentation's way: JSON both ways."""

    def decode_request(self, request: dict[str, Any]) -> Any:
        """Body to row."""
        return np.asarray(request["x"], dtype=np.float32)

    def encode_response(self, output: Any) -> dict[str, Any]:
        """Row of logits to body."""
        return {"logits": output.tolist()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--wire", choices=("raw", "json"), required=True)
    arguments = parser.parse_args()
    kind = DigitsBinary if arguments.wire == "raw" else DigitsJson
    # 0 was the fastest of 0, 1, 5 and 10 ms, at 64 connections and at one.
    wait_s = float(os.environ.get("BENCH_LITSERVE_WAIT_S", "0"))
    api = kind(max_batch_size=MAX_BATCH, batch_timeout=wait_s, api_path="/infer")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(host="127.0.0.1", port=arguments.port, num_api_servers=1, log_level="error", generate_client_file=False)
