# Its libraries are only in the environment that it runs in.
# mypy: ignore-errors
"""The model behind the real Triton front end, through PyTriton's Python backend: dynamic batching, one instance.

Runs in an environment of its own (`.venvs/pytriton`), made with the distribution's own Python 3.11: the backend stub in
the wheel is built against it.
"""

from __future__ import annotations

import argparse
import os

import numpy as np
import onnxruntime
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import DEFAULT_PROTECTED_ENDPOINTS, Triton, TritonConfig, TritonSecurityConfig

MAX_BATCH = 64


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--outputs", default="logits", help="comma-separated names of the outputs that are served")
    arguments = parser.parse_args()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"])
    names = arguments.outputs.split(",")
    widths = {"logits": 10, "embedding": 64}

    @batch
    def infer(x: np.ndarray) -> list[np.ndarray]:
        return session.run(names, {"x": x})

    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=arguments.port,
        grpc_address="127.0.0.1",
        grpc_port=arguments.grpc_port,
        allow_metrics=False,
        log_verbose=0,
    )
    # Statistics are what `hardcase bench` asks for; PyTriton keeps them behind a token of its own otherwise.
    restricted = [name for name in DEFAULT_PROTECTED_ENDPOINTS if name != "statistics"]
    with Triton(config=config, security_config=TritonSecurityConfig(restricted_endpoints=restricted)) as triton:
        triton.bind(
            model_name="digits",
            infer_func=infer,
            inputs=[Tensor(name="x", dtype=np.float32, shape=(1, 8, 8))],
            outputs=[Tensor(name=name, dtype=np.float32, shape=(widths[name],)) for name in names],
            config=ModelConfig(max_batch_size=MAX_BATCH, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
            strict=False,
        )
        triton.serve()


if __name__ == "__main__":
    main()
