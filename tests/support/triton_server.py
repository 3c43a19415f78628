# Runs in PyTriton's own environment, with the distribution's Python; its libraries are not in ours.
# mypy: ignore-errors
"""ONNX models behind the real Triton front end (PyTriton), for the differential test.

    python triton_server.py --port P --grpc-port P MODELS.json

MODELS.json: [{"name", "path", "inputs": [[name, numpy dtype, shape without batch]], "outputs": [...]}]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def tensors(specs: list) -> list:
    return [Tensor(name=n, dtype=bytes if d == "object" else np.dtype(d), shape=tuple(s) or (1,)) for n, d, s in specs]


def function(model: dict):
    session = onnxruntime.InferenceSession(model["path"], providers=["CPUExecutionProvider"])
    kinds = {n: d for n, d, _ in model["inputs"]}
    outputs = [(n, d) for n, d, _ in model["outputs"]]

    @batch
    def infer(**arrays):
        feed = {
            n: np.vectorize(bytes.decode, otypes=[object])(a) if kinds[n] == "object" else a for n, a in arrays.items()
        }
        results = session.run([n for n, _ in outputs], feed)
        encode = np.vectorize(str.encode, otypes=[object])
        named = {n: encode(r) if d == "object" else r for (n, d), r in zip(outputs, results, strict=True)}
        return {n: r.reshape(-1, 1) if r.ndim == 1 else r for n, r in named.items()}  # Triton knows no rank 0

    return infer


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("models", type=Path)
    arguments = parser.parse_args()
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=arguments.port,
        grpc_address="127.0.0.1",
        grpc_port=arguments.grpc_port,
        allow_metrics=False,
    )
    with Triton(config=config) as triton:
        for model in json.loads(arguments.models.read_text()):
            triton.bind(
                model_name=model["name"],
                infer_func=function(model),
                inputs=tensors(model["inputs"]),
                outputs=tensors(model["outputs"]),
                config=ModelConfig(max_batch_size=64, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
                strict=False,
            )
        triton.serve()


if __name__ == "__main__":
    main()
