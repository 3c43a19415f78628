# Its libraries are only in the environment that it runs in.
# mypy: ignore-errors
"""The model in mosec, written for speed as its documentation shows: own wire format, dynamic batching, one worker.

Runs in an environment of its own (`.venvs/mosec`). mosec reads --address and --port itself.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import onnxruntime
from mosec import Server, Worker

MAX_BATCH = int(os.environ.get("BENCH_MAX_BATCH", "64"))
# Milliseconds a batch that is not full may wait; mosec has no smaller value than 1 (0 means its default of 10).
MAX_WAIT_MS = int(os.environ.get("BENCH_MOSEC_WAIT_MS", "1"))


class Digits(Worker):
    """Raw float32 in, raw float32 out: the least work that mosec's protocol can be."""

    resp_mime_type = "application/octet-stream"

    def __init__(self) -> None:
        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"]
        )
        self.session.run(["logits"], {"x": np.zeros((MAX_BATCH, 1, 8, 8), np.float32)})

    def deserialize(self, data: bytes) -> Any:
        """Body to row."""
        return np.frombuffer(data, dtype=np.float32).reshape(1, 8, 8)

    def serialize(self, data: Any) -> bytes:
        """Row of logits to body."""
        return data.tobytes()

    def forward(self, data: list[Any]) -> list[Any]:
        """(batch, 1, 8, 8) → (batch, 10)."""
        return list(self.session.run(["logits"], {"x": np.stack(data)})[0])


class DigitsJson(Digits):
    """The same with JSON bodies."""

    resp_mime_type = "application/json"

    def deserialize(self, data: bytes) -> Any:
        """Body to row."""
        return np.asarray(json.loads(data)["x"], dtype=np.float32)

    def serialize(self, data: Any) -> bytes:
        """Row of logits to body."""
        return json.dumps({"logits": data.tolist()}).encode()


if __name__ == "__main__":
    server = Server()
    server.append_worker(Digits, num=1, max_batch_size=MAX_BATCH, max_wait_time=MAX_WAIT_MS, route="/infer")
    server.append_worker(DigitsJson, num=1, max_batch_size=MAX_BATCH, max_wait_time=MAX_WAIT_MS, route="/infer-json")
    server.run()
