"""Every runtime passes the same checks: pure input, deterministic, dtypes, order and number of outputs, errors."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export.contracts.datatypes import Datatype
from export.contracts.errors import InvalidRequest, ModelFailed
from export.contracts.manifest import FileRole, RuntimeFile, RuntimeKind
from export.contracts.signature import InputSpec, OutputSpec, Signature
from export.package import Package, write_package
from serving.options import RuntimeOptions
from serving.runtime.base import Runtime
from serving.runtime.devices import CPU
from serving.runtime.loader import load_runtime
from serving.runtime.onnx_bound import BoundOnnxRuntime
from serving.runtime.onnx_graphs import GraphedOnnxRuntime
from serving.runtime.onnx_session import SessionOptions, open_session
from serving.runtime.staged import GraphOptions
from tests.support import packages as p

NUMERIC = tuple(d for d in Datatype if d not in (Datatype.BYTES, Datatype.BF16))


class EchoEverything(torch.nn.Module):
    """Gives back each of its inputs."""

    def forward(
        self, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return a, b, c


class WritesIntoItsInput(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x.add_(1.0)
        return x.relu_()


class ByName(torch.nn.Module):
    """Outputs in a dict, in another order than the signature's."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"second": x * 2.0, "first": x + 1.0}


class Raises(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(3, 5, 7)


def scripted(folder: Path, module: torch.nn.Module, signature: Signature) -> Package:
    """A TorchScript-only package of a module."""

    def fill(target: Path) -> dict[str, FileRole]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.script(module.eval()).save(str(target / "model.pt"))
        return {"model.pt": FileRole.WEIGHTS}

    runtimes = (RuntimeFile(kind=RuntimeKind.TORCHSCRIPT, path="model.pt"),)
    return write_package(folder / "model", p.manifest_for(signature, name="model", runtimes=runtimes), fill)


def one(shape: tuple[int, ...] = (-1, 4), datatype: Datatype = Datatype.FP32, *outputs: str) -> Signature:
    return Signature(
        inputs=(InputSpec(name="x", datatype=datatype, shape=shape),),
        outputs=tuple(OutputSpec(name=o, datatype=datatype, shape=shape) for o in outputs or ("y",)),
    )


def load(package: Package, **options: Any) -> Runtime:
    return load_runtime(package.dir, package.manifest, RuntimeOptions(device="cpu", **options))


@dataclass
class Case:
    """A loaded package, and inputs for it by rows."""

    runtime: Runtime
    signature: Signature
    inputs: Callable[[int], list[np.ndarray[Any, Any]]]


def all_dtypes(folder: Path, kind: str) -> Package:
    if kind == "onnx":
        return p.all_dtypes_package(folder, datatypes=NUMERIC)
    pairs = [Datatype.FP32, Datatype.INT64, Datatype.BOOL]
    signature = Signature(
        inputs=tuple(InputSpec(name=f"in_{d}", datatype=d, shape=(-1, 2)) for d in pairs),
        outputs=tuple(OutputSpec(name=f"out_{d}", datatype=d, shape=(-1, 2)) for d in pairs),
    )
    return scripted(folder, EchoEverything(), signature)


def bound(package: Package, graphs: bool) -> Runtime:
    """The runtime that CUDA gets for ONNX, on the CPU."""
    signature = package.manifest.signature
    how = SessionOptions(threads=1, max_rows=16, graphs=False, runtime=RuntimeOptions())
    session = open_session(package.dir / "model.onnx", signature, CPU, how)

    def memory(size: int) -> np.ndarray[Any, Any]:
        return np.full(size, 0xA5, np.uint8)

    if not graphs:
        return BoundOnnxRuntime(session, signature, CPU, memory, lanes=2)
    sizes = GraphOptions(enabled=True, max_rows=16, memory_bytes=0)
    runtime = GraphedOnnxRuntime(session, signature, CPU, memory, sizes)
    runtime.prepare()
    assert runtime.facts["graphs"] == "1,2,4,8,16"
    return runtime


KINDS = ["onnx-digits", "torchscript-digits", "onnx-dtypes", "torchscript-dtypes", "onnx-digits-double",
         "torchscript-dtypes-double", "onnx-dtypes-double", "onnx-digits-bound", "onnx-dtypes-bound",
         "onnx-digits-graphs", "onnx-dtypes-graphs"]  # fmt: skip


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    kind, model, *how = request.param.split("-")
    package = p.torchscript_package(tmp_path) if model == "digits" else all_dtypes(tmp_path, kind)
    signature = package.manifest.signature
    if how in ([], ["double"]):
        options = RuntimeOptions(device="double:0.2ms" if how else "cpu", prefer=(kind,))
        runtime = load_runtime(package.dir, package.manifest, options, max_rows=16)
    else:
        runtime = bound(package, graphs=how == ["graphs"])
    assert runtime.kind == kind

    def inputs(rows: int) -> list[np.ndarray[Any, Any]]:
        seed = int(np.random.default_rng().integers(1 << 30))
        return [p.random_tensor(s.datatype, (rows, *s.shape[1:]), seed) for s in signature.inputs]

    yield Case(runtime, signature, inputs)
    runtime.close()


def every(case: Case) -> tuple[int, ...]:
    return tuple(range(len(case.signature.outputs)))


def test_inputs_are_left_as_they_were_even_when_they_cannot_be_written(case: Case) -> None:
    given = case.inputs(5)
    before = [a.copy() for a in given]
    case.runtime.run(given, every(case))
    for array in given:
        array.flags.writeable = False
    case.runtime.run(given, every(case))
    for array, copy in zip(given, before, strict=True):
        assert array.tobytes() == copy.tobytes()


def test_what_is_gathered_into_the_runtimes_own_memory_is_what_is_computed(case: Case) -> None:
    given = case.inputs(5)
    truth = case.runtime.run(given, every(case))
    own = []
    for index, array in enumerate(given):
        buffer = case.runtime.buffer(index, array.shape)
        if buffer is not None:
            assert (buffer.shape, buffer.dtype) == (array.shape, array.dtype)
            buffer[...] = array
        own.append(array if buffer is None else buffer)
    for a, b in zip(case.runtime.run(own, every(case)), truth, strict=True):
        assert a.tobytes() == b.tobytes()
    for array, sent in zip(own, given, strict=True):
        assert array.tobytes() == sent.tobytes()


def test_batches_from_several_threads_do_not_mix(case: Case) -> None:
    batches = [case.inputs(1 + n % 5) for n in range(24)]
    alone = [case.runtime.run(given, every(case)) for given in batches]
    with ThreadPoolExecutor(case.runtime.concurrency) as threads:
        together = list(threads.map(lambda given: case.runtime.run(given, every(case)), batches))
    for expected, got in zip(alone, together, strict=True):
        for a, b in zip(expected, got, strict=True):
            np.testing.assert_allclose(a.astype(float), b.astype(float), rtol=1e-4, atol=1e-5)


def test_the_same_inputs_give_the_same_bytes(case: Case) -> None:
    given = case.inputs(3)
    first, second = (case.runtime.run(given, every(case)) for _ in range(2))
    assert [a.tobytes() for a in first] == [a.tobytes() for a in second]


def test_earlier_answers_survive_later_runs(case: Case) -> None:
    kept = case.runtime.run(case.inputs(4), every(case))
    copies = [a.copy() for a in kept]
    for rows in (4, 1, 9):
        case.runtime.run(case.inputs(rows), every(case))
    for array, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("rows", [1, 2, 33])
def test_answers_have_the_signatures_dtype_shape_and_order(case: Case, rows: int) -> None:
    wanted = tuple(reversed(every(case)))
    answers = case.runtime.run(case.inputs(rows), wanted)
    assert len(answers) == len(wanted)
    for index, answer in zip(wanted, answers, strict=True):
        spec = case.signature.outputs[index]
        assert answer.dtype == spec.datatype.numpy
        assert answer.shape == (rows, *spec.shape[1:])
        assert answer.flags.c_contiguous


def test_outputs_can_be_asked_for_one_by_one(case: Case) -> None:
    given = case.inputs(2)
    together = case.runtime.run(given, every(case))
    for index, answer in enumerate(together):
        (alone,) = case.runtime.run(given, [index])
        np.testing.assert_array_equal(alone, answer)


def test_a_row_is_answered_as_if_it_were_alone(case: Case) -> None:
    given = case.inputs(6)
    together = case.runtime.run(given, every(case))
    for row in range(6):
        alone = case.runtime.run([np.ascontiguousarray(a[row : row + 1]) for a in given], every(case))
        for a, b in zip(alone, together, strict=True):
            np.testing.assert_allclose(a[0].astype(float), b[row].astype(float), rtol=1e-4, atol=1e-5)


def test_what_the_model_raises_becomes_a_public_error(case: Case) -> None:
    wrong = [a.reshape(-1)[:3] for a in case.inputs(2)]
    any_shape = case.runtime.kind == "torchscript" and len(wrong) > 1  # that module takes whatever comes
    for given in ([], *([] if any_shape else [wrong])):
        with pytest.raises(ModelFailed) as caught:
            case.runtime.run(given, every(case))
        assert "the model raised" in caught.value.message
        assert not any(word in caught.value.message for word in ("/", "Error", "onnx", "torch", "0x"))
    assert case.runtime.healthy
    case.runtime.run(case.inputs(2), every(case))  # and the next batch is answered


def test_after_close_it_refuses_and_a_second_close_is_harmless(case: Case) -> None:
    case.runtime.close()
    case.runtime.close()
    with pytest.raises(ModelFailed, match="unloaded"):
        case.runtime.run(case.inputs(1), every(case))


def test_onnx_and_torchscript_of_the_same_weights_agree(tmp_path: Path) -> None:
    package = p.torchscript_package(tmp_path)
    x = p.random_tensor(Datatype.FP32, (9, 1, 8, 8))
    answers = [load(package, prefer=(kind,)).run([x], (0, 1)) for kind in ("onnx", "torchscript")]
    for a, b in zip(*answers, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_module_that_writes_into_its_input_does_not_change_the_request(tmp_path: Path) -> None:
    runtime = load(scripted(tmp_path, WritesIntoItsInput(), one()))
    x = np.full((2, 4), -0.5, dtype=np.float32)
    (answer,) = runtime.run([x], (0,))
    assert (answer == 0.5).all()
    assert (x == -0.5).all()


def test_outputs_in_a_dict_are_taken_by_name(tmp_path: Path) -> None:
    runtime = load(scripted(tmp_path, ByName(), one((-1, 4), Datatype.FP32, "first", "second")))
    x = np.full((2, 4), 3.0, dtype=np.float32)
    first, second = runtime.run([x], (0, 1))
    assert (first == 4.0).all()
    assert (second == 6.0).all()


def test_torchscript_that_raises_is_a_public_error(tmp_path: Path) -> None:
    runtime = load(scripted(tmp_path, Raises(), one()))
    with pytest.raises(ModelFailed, match="the model raised"):
        runtime.run([np.zeros((2, 4), np.float32)], (0,))


def test_torchscript_that_returns_another_number_of_outputs_is_told_both_numbers(tmp_path: Path) -> None:
    signature = one((-1, 4), Datatype.FP32, "a", "b")
    module = torch.nn.ReLU()
    runtime = load(scripted(tmp_path, module, signature))
    with pytest.raises(ModelFailed, match="returned 1 outputs, its signature has 2"):
        runtime.run([np.zeros((2, 4), np.float32)], (0, 1))


@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_bf16_travels_as_the_bits_that_came(tmp_path: Path, kind: str) -> None:
    if kind == "onnx":
        package = p.all_dtypes_package(tmp_path, datatypes=(Datatype.BF16, Datatype.FP32))
        given = [p.random_tensor(d, (3, 2)) for d in (Datatype.BF16, Datatype.FP32)]
    else:
        package = scripted(tmp_path, torch.nn.Identity(), one((-1, 2), Datatype.BF16))
        given = [p.random_tensor(Datatype.BF16, (3, 2))]
    runtime = load(package)
    for wanted in ([0], list(range(len(given)))[::-1]):
        for index, answer in zip(wanted, runtime.run(given, wanted), strict=True):
            assert answer.dtype == given[index].dtype
            np.testing.assert_array_equal(answer, given[index])


def test_text_comes_back_as_the_bytes_that_came(tmp_path: Path) -> None:
    runtime = load(p.echo_package(tmp_path))
    words = np.array([["grüße, 漢字".encode()], [b""], [b"a\0b"]], dtype=object)
    (answer,) = runtime.run([words], (0,))
    assert answer.dtype == object
    assert answer.tolist() == words.tolist()


def test_text_that_is_no_utf8_is_the_clients_fault_and_names_the_input(tmp_path: Path) -> None:
    runtime = load(p.echo_package(tmp_path))
    with pytest.raises(InvalidRequest, match=r"input 'text'.*UTF-8"):
        runtime.run([np.array([[b"\xff\xfe"]], dtype=object)], (0,))


def test_a_subset_of_the_files_outputs_is_a_fine_signature(tmp_path: Path) -> None:
    package = p.digits_like_package(tmp_path)
    signature = package.manifest.signature
    fewer = replace(package.manifest, signature=replace(signature, outputs=signature.outputs[1:]))
    runtime = load_runtime(package.dir, fewer, RuntimeOptions(device="cpu"))
    (embedding,) = runtime.run([np.zeros((2, 1, 8, 8), np.float32)], (0,))
    assert embedding.shape == (2, 64)
