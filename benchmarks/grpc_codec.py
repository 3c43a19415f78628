"""What reading a ModelInferRequest and writing a ModelInferResponse cost: by hand, and with protobuf (upb).

    python -m benchmarks.grpc_codec            about 10 seconds; results/grpc_codec.json

One 8x8 image in, ten logits out, and the same with 3x224x224 in. Both sides end with checked tensors: "protobuf"
decodes every message and checks it with the same plan maker, as the hand-written reader does for heads it has not seen.
"""

from __future__ import annotations

import argparse
import sys
import timeit
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.machine import machine_facts
from benchmarks.stored import store_result
from export.contracts.datatypes import Datatype
from export.contracts.signature import InputSpec, OutputSpec, Signature
from serving.answer import BatchOutputs
from serving.grpc.answer import MessageAnswers
from serving.grpc.messages import messages
from serving.grpc.parser import MessageParser
from serving.grpc.scan import InferMessage, scan
from serving.options import Limits

ROOT = Path(__file__).resolve().parents[1]
SHAPES = {"8x8": (1, 8, 8), "224x224": (3, 224, 224)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grpc_codec", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--output", type=Path, help="where the result is written; --quick alone writes none")
    options = parser.parse_args(arguments)
    repeats = 2 if options.quick else 5
    found: dict[str, dict[str, float]] = {}
    for name, shape in SHAPES.items():
        found[name] = {label: round(_us(work, repeats), 2) for label, work in _work(shape).items()}
        print(name, found[name])
    results = {"schema_version": 1, "machine": machine_facts(ROOT, ("protobuf", "numpy")), "microseconds": found}
    store_result(results, "grpc_codec", asked=options.output, quick=options.quick)
    return 0


def _work(shape: tuple[int, ...]) -> dict[str, Callable[[], object]]:
    signature = Signature(
        batched=True,
        inputs=(InputSpec(name="x", datatype=Datatype.FP32, shape=(-1, *shape)),),
        outputs=(OutputSpec(name="logits", datatype=Datatype.FP32, shape=(-1, 10)),),
    )
    kinds = messages()
    request = kinds.ModelInferRequest(model_name="digits", id="request-1")
    request.inputs.add(name="x", datatype="FP32", shape=(1, *shape))
    request.raw_input_contents.append(np.zeros((1, *shape), np.float32).tobytes())
    body: bytes = request.SerializeToString()
    answers = MessageAnswers("digits", "1", signature, (), (0,))
    own = MessageParser(signature, Limits(), answers)
    logits = np.zeros((64, 10), np.float32)
    outputs = BatchOutputs(signature.outputs, [logits], 64, True)
    plan = answers.default(binary=True)

    def protobuf_reads() -> object:
        given = InferMessage(body, None, b"", [])  # the way of messages that are not canonical
        return own.parse(given)

    def protobuf_writes() -> object:
        answer = kinds.ModelInferResponse(model_name="digits", model_version="1", id="request-1")
        answer.outputs.add(name="logits", datatype="FP32", shape=(1, 10))
        answer.raw_output_contents.append(logits[3:4].tobytes())
        return answer.SerializeToString()

    return {
        "read_by_hand": lambda: own.parse(scan(body)),
        "read_protobuf": protobuf_reads,
        "write_by_hand": lambda: plan.render(outputs, b"request-1", 3, 1),
        "write_protobuf": protobuf_writes,
    }


def _us(work: Callable[[], object], repeats: int) -> float:
    """Microseconds of one call: the best of several runs, because others only ever add."""
    timer = timeit.Timer(work)
    number, _ = timer.autorange()
    return min(timer.repeat(repeats, number)) / number * 1e6


if __name__ == "__main__":
    sys.exit(main())
