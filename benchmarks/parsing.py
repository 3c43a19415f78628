"""What parsing and rendering cost a request, with and without the caches: `python -m benchmarks.parsing`."""

from __future__ import annotations

import json
import tempfile
import timeit
from collections.abc import Callable
from pathlib import Path

import numpy as np

from serving.answer import AnswerPlans, BatchOutputs
from serving.lane_head import read_head
from serving.options import Limits
from serving.protocol import RequestParser
from tests.support.packages import digits_like_package


def microseconds(call: Callable[[], object], number: int = 20_000) -> float:
    """Best mean of five rounds: what the code needs when nothing disturbs it."""
    return min(timeit.repeat(call, number=number, repeat=5)) / number * 1e6


def main() -> None:
    """Print one line a step."""
    signature = digits_like_package(Path(tempfile.mkdtemp())).manifest.signature
    answers = AnswerPlans("digits", "1", signature, (), "error", (0, 1))
    parser = RequestParser(signature, Limits(), answers)
    x = np.random.default_rng(0).random((1, 1, 8, 8), dtype=np.float32)
    tensor = {"name": "x", "shape": [1, 1, 8, 8], "datatype": "FP32"}
    head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": 256}}]}).encode()
    binary, length = head + x.tobytes(), str(len(head)).encode()
    text = json.dumps({"inputs": [{**tensor, "data": x.ravel().tolist()}]}, separators=(",", ":")).encode()

    def cold(body: bytes, header_length: bytes | None) -> object:
        parser._plans.clear()
        return parser.parse(body, header_length)

    outputs = BatchOutputs(signature.outputs, [np.zeros((64, 10), "f"), np.zeros((64, 64), "f")], 64, True)
    plan = answers.default(binary=True)

    def cold_render() -> object:
        plan._templates.clear()
        return plan.render(outputs, b"0123456789ab-0000000001", 3, 1)

    lines = b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: localhost:8000\r\nContent-Length: 400\r\n"
    lines += b"Inference-Header-Content-Length: 110\r\nContent-Type: application/octet-stream\r\n\r\n"
    heads = {lines: read_head(lines)}
    rows = [
        ("head", lambda: read_head(lines), lambda: heads[lines]),
        ("parse and check, binary", lambda: cold(binary, length), lambda: parser.parse(binary, length)),
        ("parse and check, JSON", lambda: cold(text, None), lambda: parser.parse(text, None)),
        ("render, binary", cold_render, lambda: plan.render(outputs, b"0123456789ab-0000000001", 3, 1)),
    ]
    print(f"{'step':28}{'without':>10}{'with':>10}   microseconds a request")
    for name, without, with_cache in rows:
        print(f"{name:28}{microseconds(without, 5000):10.2f}{microseconds(with_cache):10.2f}")


if __name__ == "__main__":
    main()
