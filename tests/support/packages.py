"""Small real packages, built in well under a second, without training. A factory writes a package and returns it.

| factory | model |
|---|---|
| `digits_like_package` | x FP32 [-1,1,8,8] image → logits [-1,10], embedding [-1,64]; random weights by seed |
| `echo_package` | text BYTES [-1,1] → echo BYTES [-1,1], identity |
| `multi_input_package` | a FP32 [-1,3], b INT64 [-1,2,2] → total FP64 [-1] = Σa + Σb, first INT64 [-1,2] = b[:, 0] |
| `bf16_script_package` | x BF16 [-1,16] → logits BF16 [-1,4], TorchScript with BF16 weights |
| `all_dtypes_package` | in_<DATATYPE> [-1,2] → out_<DATATYPE> [-1,2], identity; BF16 only when asked for |
| `variable_length_package` | x FP32 [-1,-1] → sum FP32 [-1] |
| `unbatched_package` | x FP32 [3] → y FP32 [3], y = 2·x; no batch axis |
| `slow_package` | x FP32 [-1,64] → y FP32 [-1,64] through `layers` matrix products of `width`²: milliseconds a row |
| `regression_package` | x FP32 [-1,4] tabular with feature names → value FP32 [-1,1] |
| `nan_package` | as `digits_like_package`, but every logit is NaN (golden cases hold the finite truth) |
| `probabilities_package` | x FP32 [-1,4] → probabilities [-1,3] (sums to one) |
| `torchscript_package` | digits-like with an ONNX and a TorchScript file of equal weights (imports torch) |

`folder / name / version` is where a package lands. `golden_from_onnx` computes golden outputs with ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.contracts.datatypes import Datatype
from export.contracts.manifest import (
    FileRole,
    Manifest,
    Provenance,
    RuntimeFile,
    RuntimeKind,
    Task,
    TaskKind,
)
from export.contracts.reference import ReferenceProfile
from export.contracts.signature import InputDisplay, InputKind, InputSpec, OutputRole, OutputSpec, Signature
from export.package import Golden, Package, write_package

ONNX_TYPES: dict[Datatype, int] = {
    Datatype.BOOL: TensorProto.BOOL,
    Datatype.UINT8: TensorProto.UINT8,
    Datatype.UINT16: TensorProto.UINT16,
    Datatype.UINT32: TensorProto.UINT32,
    Datatype.UINT64: TensorProto.UINT64,
    Datatype.INT8: TensorProto.INT8,
    Datatype.INT16: TensorProto.INT16,
    Datatype.INT32: TensorProto.INT32,
    Datatype.INT64: TensorProto.INT64,
    Datatype.FP16: TensorProto.FLOAT16,
    Datatype.BF16: TensorProto.BFLOAT16,
    Datatype.FP32: TensorProto.FLOAT,
    Datatype.FP64: TensorProto.DOUBLE,
    Datatype.BYTES: TensorProto.STRING,
}
DIGITS_INPUT = InputSpec(
    name="x",
    datatype=Datatype.FP32,
    shape=(-1, 1, 8, 8),
    axes=("batch", "channel", "height", "width"),
    display=InputDisplay(kind=InputKind.IMAGE, layout="CHW", value_range=(0.0, 1.0)),
)
DIGITS_SIGNATURE = Signature(
    inputs=(DIGITS_INPUT,),
    outputs=(
        OutputSpec(
            name="logits",
            datatype=Datatype.FP32,
            shape=(-1, 10),
            role=OutputRole.LOGITS,
            axes=("batch", "class"),
        ),
        OutputSpec(
            name="embedding",
            datatype=Datatype.FP32,
            shape=(-1, 64),
            role=OutputRole.EMBEDDING,
            axes=("batch", "feature"),
        ),
    ),
)
DIGITS_TASK = Task(kind=TaskKind.CLASSIFICATION, class_names=tuple(str(i) for i in range(10)))


def make_model(
    signature: Signature, nodes: Sequence[onnx.NodeProto], weights: dict[str, np.ndarray[Any, Any]] | None = None
) -> onnx.ModelProto:
    """An ONNX model for a signature: opset 20, IR version 10, checked."""

    def info(spec: InputSpec | OutputSpec) -> onnx.ValueInfoProto:
        shape = [f"d{i}_{spec.name}" if n < 0 else n for i, n in enumerate(spec.shape)]
        if signature.batched:
            shape[0] = "batch"
        return helper.make_tensor_value_info(spec.name, ONNX_TYPES[spec.datatype], shape)

    graph = helper.make_graph(
        list(nodes),
        "test",
        [info(s) for s in signature.inputs],
        [info(s) for s in signature.outputs],
        [numpy_helper.from_array(w, name) for name, w in (weights or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def package_model(
    folder: Path,
    model: onnx.ModelProto,
    signature: Signature,
    *,
    name: str,
    version: str = "1",
    task: Task | None = None,
    golden: Golden | None = None,
    reference: ReferenceProfile | None = None,
    max_batch_rows: int = 256,
) -> Package:
    """Write an ONNX model as a package to `folder / name / version`."""

    def fill(target: Path) -> dict[str, FileRole]:
        (target / "model.onnx").write_bytes(model.SerializeToString())
        return {"model.onnx": FileRole.WEIGHTS}

    return write_package(
        folder / name / version,
        manifest_for(signature, name=name, version=version, task=task, max_batch_rows=max_batch_rows),
        fill,
        golden=golden,
        reference=reference,
    )


def manifest_for(
    signature: Signature,
    *,
    name: str,
    version: str = "1",
    task: Task | None = None,
    max_batch_rows: int = 256,
    runtimes: tuple[RuntimeFile, ...] = (RuntimeFile(kind=RuntimeKind.ONNX, path="model.onnx"),),
) -> Manifest:
    """A manifest without files, for `write_package`."""
    return Manifest(
        name=name,
        version=version,
        task=task or Task(kind=TaskKind.OTHER),
        signature=signature,
        runtimes=runtimes,
        files=(),
        provenance=Provenance(created_at="2026-01-01T00:00:00Z", source="tests"),
        max_batch_rows=max_batch_rows,
    )


def golden_from_onnx(model: onnx.ModelProto, inputs: dict[str, np.ndarray[Any, Any]], signature: Signature) -> Golden:
    """Golden cases: `inputs` and what ONNX Runtime computes for them on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [o.name for o in signature.outputs]
    return Golden(inputs=inputs, outputs=dict(zip(names, session.run(names, inputs), strict=True)))


def digits_like_model(seed: int = 0) -> onnx.ModelProto:
    """The model of `digits_like_package`."""
    rng = np.random.default_rng(seed)
    weights = {
        "w1": rng.normal(0, 0.3, (64, 64)).astype(np.float32),
        "b1": rng.normal(0, 0.1, 64).astype(np.float32),
        "w2": rng.normal(0, 0.4, (64, 10)).astype(np.float32),
        "b2": np.zeros(10, np.float32),
    }
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"], axis=1),
        helper.make_node("Gemm", ["flat", "w1", "b1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["embedding"]),
        helper.make_node("Gemm", ["embedding", "w2", "b2"], ["logits"]),
    ]
    return make_model(DIGITS_SIGNATURE, nodes, weights)


def digits_like_package(
    folder: Path,
    *,
    name: str = "digits",
    version: str = "1",
    seed: int = 0,
    golden_rows: int = 4,
    reference: ReferenceProfile | None = None,
    max_batch_rows: int = 256,
) -> Package:
    """x FP32 [-1,1,8,8] → logits [-1,10] and embedding [-1,64]; `seed` decides the weights."""
    model = digits_like_model(seed)
    x = np.random.default_rng(seed + 1).random((golden_rows, 1, 8, 8), dtype=np.float32)
    return package_model(
        folder,
        model,
        DIGITS_SIGNATURE,
        name=name,
        version=version,
        task=DIGITS_TASK,
        golden=golden_from_onnx(model, {"x": x}, DIGITS_SIGNATURE) if golden_rows else None,
        reference=reference,
        max_batch_rows=max_batch_rows,
    )


def nan_package(folder: Path, *, name: str = "digits", version: str = "nan", seed: int = 0) -> Package:
    """Loads and answers, but every logit is NaN; the golden cases hold what it ought to answer."""
    good = digits_like_model(seed)
    x = np.random.default_rng(seed + 1).random((4, 1, 8, 8), dtype=np.float32)
    bad = digits_like_model(seed)
    for initializer in bad.graph.initializer:
        if initializer.name == "b2":
            initializer.CopyFrom(numpy_helper.from_array(np.full(10, np.nan, np.float32), "b2"))
    return package_model(
        folder,
        bad,
        DIGITS_SIGNATURE,
        name=name,
        version=version,
        task=DIGITS_TASK,
        golden=golden_from_onnx(good, {"x": x}, DIGITS_SIGNATURE),
    )


def narrow_package(folder: Path, *, name: str = "digits", version: str = "narrow", seed: int = 0) -> Package:
    """Passes its golden cases, whose values are above 0.5, and answers NaN to every request with one below."""
    model = digits_like_model(seed)
    gemm = next(node for node in model.graph.node if node.input[0] == "flat")
    gemm.input[0] = "root"
    model.graph.initializer.append(numpy_helper.from_array(np.full(1, 0.5, np.float32), "half"))
    at = list(model.graph.node).index(gemm)
    model.graph.node.insert(at, helper.make_node("Sqrt", ["above"], ["root"]))
    model.graph.node.insert(at, helper.make_node("Sub", ["flat", "half"], ["above"]))
    x = 0.6 + 0.3 * np.random.default_rng(seed + 1).random((4, 1, 8, 8), dtype=np.float32)
    return package_model(
        folder,
        model,
        DIGITS_SIGNATURE,
        name=name,
        version=version,
        task=DIGITS_TASK,
        golden=golden_from_onnx(model, {"x": x.astype(np.float32)}, DIGITS_SIGNATURE),
    )


def echo_package(folder: Path, *, name: str = "echo", version: str = "1") -> Package:
    """BYTES in, the same BYTES out."""
    signature = Signature(
        inputs=(
            InputSpec(name="text", datatype=Datatype.BYTES, shape=(-1, 1), display=InputDisplay(kind=InputKind.TEXT)),
        ),
        outputs=(OutputSpec(name="echo", datatype=Datatype.BYTES, shape=(-1, 1)),),
    )
    model = make_model(signature, [helper.make_node("Identity", ["text"], ["echo"])])
    words = np.array([[b"hello"], ["grüße".encode()], [b""]], dtype=object)
    golden = Golden(inputs={"text": words}, outputs={"echo": words})
    return package_model(folder, model, signature, name=name, version=version, golden=golden)


def multi_input_package(folder: Path, *, name: str = "multi", version: str = "1") -> Package:
    """Two inputs of different datatype and rank, two outputs of different datatype and rank."""
    signature = Signature(
        inputs=(
            InputSpec(name="a", datatype=Datatype.FP32, shape=(-1, 3)),
            InputSpec(name="b", datatype=Datatype.INT64, shape=(-1, 2, 2)),
        ),
        outputs=(
            OutputSpec(name="total", datatype=Datatype.FP64, shape=(-1,)),
            OutputSpec(name="first", datatype=Datatype.INT64, shape=(-1, 2)),
        ),
    )
    nodes = [
        helper.make_node("Cast", ["a"], ["a64"], to=TensorProto.DOUBLE),
        helper.make_node("Cast", ["b"], ["b64"], to=TensorProto.DOUBLE),
        helper.make_node("ReduceSum", ["a64", "axis1"], ["sa"], keepdims=0),
        helper.make_node("ReduceSum", ["b64", "axes12"], ["sb"], keepdims=0),
        helper.make_node("Add", ["sa", "sb"], ["total"]),
        helper.make_node("Gather", ["b", "zero"], ["first"], axis=1),
    ]
    weights = {"axis1": np.array([1]), "axes12": np.array([1, 2]), "zero": np.array(0)}
    model = make_model(signature, nodes, weights)
    rng = np.random.default_rng(3)
    inputs = {"a": rng.random((5, 3), dtype=np.float32), "b": rng.integers(-9, 9, (5, 2, 2))}
    return package_model(
        folder, model, signature, name=name, version=version, golden=golden_from_onnx(model, inputs, signature)
    )


def all_dtypes_package(
    folder: Path,
    *,
    name: str = "dtypes",
    version: str = "1",
    datatypes: Sequence[Datatype] = tuple(d for d in Datatype if d is not Datatype.BF16),
) -> Package:
    """One identity pair a datatype, so that every datatype crosses the wire, the runtime and the record log.

    BF16 wants a package without BYTES, as ONNX Runtime cannot carry both in one call: `datatypes=(Datatype.BF16,)`.
    """
    signature = Signature(
        inputs=tuple(InputSpec(name=f"in_{d}", datatype=d, shape=(-1, 2)) for d in datatypes),
        outputs=tuple(OutputSpec(name=f"out_{d}", datatype=d, shape=(-1, 2)) for d in datatypes),
    )
    model = make_model(signature, [helper.make_node("Identity", [f"in_{d}"], [f"out_{d}"]) for d in datatypes])
    golden = Golden(
        inputs={f"in_{d}": random_tensor(d, (3, 2)) for d in datatypes},
        outputs={f"out_{d}": random_tensor(d, (3, 2)) for d in datatypes},
    )
    return package_model(folder, model, signature, name=name, version=version, golden=golden)


def random_tensor(datatype: Datatype, shape: tuple[int, ...], seed: int = 0) -> np.ndarray[Any, Any]:
    """Random elements of a datatype, in its numpy form; finite where it is a float. Deterministic by seed."""
    rng = np.random.default_rng([seed, *(ord(c) for c in datatype.value)])
    if datatype is Datatype.BYTES:
        out = np.empty(shape, dtype=object)
        # text, because ONNX strings are UTF-8; with NUL and letters of one to three bytes
        out.reshape(-1)[:] = [
            "".join(map(chr, rng.integers(0, 0x3000, int(rng.integers(0, 12))))).encode() for _ in range(out.size)
        ]
        return out
    if datatype is Datatype.BOOL:
        return rng.integers(0, 2, shape).astype(np.bool_)
    if datatype is Datatype.BF16:
        return (rng.normal(size=shape).astype("<f4").view("<u4") >> 16).astype("<u2")
    if datatype.is_float:
        return rng.normal(size=shape).astype(datatype.numpy)
    info = np.iinfo(datatype.numpy)
    return rng.integers(info.min, info.max, shape, dtype=datatype.numpy, endpoint=True)


def variable_length_package(folder: Path, *, name: str = "varlen", version: str = "1") -> Package:
    """x FP32 [-1,-1] → sum over each row."""
    signature = Signature(
        inputs=(InputSpec(name="x", datatype=Datatype.FP32, shape=(-1, -1)),),
        outputs=(OutputSpec(name="sum", datatype=Datatype.FP32, shape=(-1,)),),
    )
    node = helper.make_node("ReduceSum", ["x", "axis"], ["sum"], keepdims=0)
    model = make_model(signature, [node], {"axis": np.array([1])})
    x = np.random.default_rng(5).random((2, 7), dtype=np.float32)
    return package_model(
        folder, model, signature, name=name, version=version, golden=golden_from_onnx(model, {"x": x}, signature)
    )


def unbatched_package(folder: Path, *, name: str = "unbatched", version: str = "1") -> Package:
    """y = 2·x on a vector of 3, without a batch axis: requests cannot be merged."""
    signature = Signature(
        inputs=(InputSpec(name="x", datatype=Datatype.FP32, shape=(3,)),),
        outputs=(OutputSpec(name="y", datatype=Datatype.FP32, shape=(3,)),),
        batched=False,
    )
    model = make_model(signature, [helper.make_node("Add", ["x", "x"], ["y"])])
    x = np.array([1.0, -2.0, 3.0], dtype=np.float32)
    return package_model(
        folder, model, signature, name=name, version=version, golden=golden_from_onnx(model, {"x": x}, signature)
    )


def slow_package(
    folder: Path, *, name: str = "slow", version: str = "1", width: int = 1024, layers: int = 8, seed: int = 0
) -> Package:
    """A chain of big matrix products. The default takes about a millisecond for one row on one core, more for many."""
    signature = Signature(
        inputs=(InputSpec(name="x", datatype=Datatype.FP32, shape=(-1, 64)),),
        outputs=(OutputSpec(name="y", datatype=Datatype.FP32, shape=(-1, 64)),),
    )
    rng = np.random.default_rng(seed)
    sizes = [64, *[width] * layers, 64]
    weights, nodes, last = {}, [], "x"
    for i, (rows, columns) in enumerate(pairwise(sizes)):
        weights[f"w{i}"] = (rng.normal(size=(rows, columns)) / np.sqrt(rows)).astype(np.float32)
        target = "y" if i == len(sizes) - 2 else f"h{i}"
        nodes.append(helper.make_node("MatMul", [last, f"w{i}"], [target]))
        last = target
    return package_model(folder, make_model(signature, nodes, weights), signature, name=name, version=version)


def regression_package(folder: Path, *, name: str = "price", version: str = "1", seed: int = 0) -> Package:
    """Tabular x FP32 [-1,4] with feature names → value FP32 [-1,1]."""
    display = InputDisplay(kind=InputKind.TABULAR, feature_names=("area", "rooms", "age", "distance"))
    signature = Signature(
        inputs=(InputSpec(name="x", datatype=Datatype.FP32, shape=(-1, 4), display=display),),
        outputs=(OutputSpec(name="value", datatype=Datatype.FP32, shape=(-1, 1), role=OutputRole.VALUE),),
    )
    w = np.random.default_rng(seed).normal(size=(4, 1)).astype(np.float32)
    model = make_model(signature, [helper.make_node("MatMul", ["x", "w"], ["value"])], {"w": w})
    x = np.random.default_rng(seed + 1).random((4, 4), dtype=np.float32)
    return package_model(
        folder,
        model,
        signature,
        name=name,
        version=version,
        task=Task(kind=TaskKind.REGRESSION),
        golden=golden_from_onnx(model, {"x": x}, signature),
    )


def probabilities_package(folder: Path, *, name: str = "proba", version: str = "1", seed: int = 0) -> Package:
    """x FP32 [-1,4] → probabilities [-1,3]."""
    role = OutputRole.PROBABILITIES
    signature = Signature(
        inputs=(InputSpec(name="x", datatype=Datatype.FP32, shape=(-1, 4)),),
        outputs=(OutputSpec(name="probabilities", datatype=Datatype.FP32, shape=(-1, 3), role=role),),
    )
    w = np.random.default_rng(seed).normal(size=(4, 3)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Softmax", ["z"], ["probabilities"], axis=1),
    ]
    model = make_model(signature, nodes, {"w": w})
    x = np.random.default_rng(seed + 1).random((4, 4), dtype=np.float32)
    return package_model(
        folder,
        model,
        signature,
        name=name,
        version=version,
        task=Task(kind=TaskKind.CLASSIFICATION, class_names=("ant", "bee", "cat")),
        golden=golden_from_onnx(model, {"x": x}, signature),
    )


def bf16_script_package(folder: Path, *, name: str = "bf16script", version: str = "1") -> Package:
    """BF16 through and through: x [-1,16] → tanh → linear → logits [-1,4] with four class names, as TorchScript."""
    import warnings

    import torch

    from export.from_torch import export_module

    torch.manual_seed(8)
    net = torch.nn.Sequential(torch.nn.Tanh(), torch.nn.Linear(16, 4)).bfloat16()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return export_module(
            net,
            torch.randn(8, 16).bfloat16(),
            name=name,
            version=version,
            task=Task(kind=TaskKind.CLASSIFICATION, class_names=("a", "b", "c", "d")),
            out_dir=folder / name / version,
            input_names=("x",),
            output_names=("logits",),
            runtimes=(RuntimeKind.TORCHSCRIPT,),
        )


def torchscript_package(
    folder: Path, *, name: str = "digits", version: str = "ts", seed: int = 0, with_onnx: bool = True
) -> Package:
    """Digits-like with equal weights as ONNX (preferred) and as TorchScript; or as TorchScript alone."""
    import warnings

    import torch

    model = digits_like_model(seed)
    w = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in model.graph.initializer}

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for key, value in w.items():
                self.register_buffer(key, value)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            h = torch.relu(x.flatten(1) @ self.w1 + self.b1)
            return h @ self.w2 + self.b2, h

    x = np.random.default_rng(seed + 1).random((4, 1, 8, 8), dtype=np.float32)

    def fill(target: Path) -> dict[str, FileRole]:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.trace(Net().eval(), torch.from_numpy(x)).save(str(target / "model.pt"))
        if with_onnx:
            (target / "model.onnx").write_bytes(model.SerializeToString())
        return dict.fromkeys(["model.pt", *(["model.onnx"] if with_onnx else [])], FileRole.WEIGHTS)

    kinds = [(RuntimeKind.ONNX, "model.onnx")] if with_onnx else []
    kinds.append((RuntimeKind.TORCHSCRIPT, "model.pt"))
    manifest = manifest_for(
        DIGITS_SIGNATURE,
        name=name,
        version=version,
        task=DIGITS_TASK,
        runtimes=tuple(RuntimeFile(kind=k, path=p) for k, p in kinds),
    )
    golden = golden_from_onnx(model, {"x": x}, DIGITS_SIGNATURE)
    return write_package(folder / name / version, replace(manifest), fill, golden=golden)
