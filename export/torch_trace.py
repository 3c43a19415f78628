"""Run a module on examples and learn its signature: names, datatypes, which dimensions vary, what outputs mean."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from export.contracts.bf16 import as_bits, narrow, widen
from export.contracts.datatypes import Datatype
from export.contracts.errors import PackageError
from export.contracts.manifest import Task
from export.contracts.signature import BATCH_AXIS, InputDisplay, InputSpec, OutputRole, OutputSpec, Signature
from export.roles import guess_roles
from export.runners import Array, first_line
from export.torch_runner import flatten_outputs, output_keys, to_array, to_tensor

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True, eq=False)
class Traced:
    """What running the module eagerly has shown."""

    examples: dict[str, Array]  # at least two rows: torch.export takes sizes 0 and 1 for constants
    outputs: dict[str, Array]
    dynamic: dict[str, tuple[int, ...]]  # by input
    output_dynamic: dict[str, tuple[int, ...]]  # by output
    bf16_inputs: frozenset[str] = frozenset()  # whose arrays are the bits of BF16
    bf16_outputs: frozenset[str] = frozenset()


def as_arrays(given: Any, names: Sequence[str], label: str, bf16: Collection[str] = ()) -> dict[str, Array]:
    """Inputs by name from a tensor, a sequence of tensors or a mapping; BF16 as its bits.

    Args:
        given: The rows.
        names: Of the inputs, in order.
        label: How messages call the rows.
        bf16: Inputs that are BF16 whatever comes: FP32 and FP64 are rounded, uint16 is taken for the bits.

    Raises:
        PackageError: they do not fit the names, or have different row counts.
    """
    if isinstance(given, Mapping):
        found = {str(k): _as_array(v, str(k) in bf16) for k, v in given.items()}
        missing = [n for n in names if n not in found]
        if missing or len(found) != len(names):
            raise PackageError(f"{label}: expected the inputs {', '.join(names)}, got {', '.join(found)}")
        arrays = {n: found[n] for n in names}
    else:
        values = list(given) if isinstance(given, tuple | list) else [given]
        if len(values) != len(names):
            raise PackageError(f"{label}: {len(values)} tensors for the inputs {', '.join(names)}")
        arrays = {n: _as_array(v, n in bf16) for n, v in zip(names, values, strict=True)}
    if len({a.shape[0] if a.ndim else 0 for a in arrays.values()}) != 1:
        raise PackageError(f"{label}: inputs differ in their number of rows (axis 0)")
    if next(iter(arrays.values())).shape[0] == 0:
        raise PackageError(f"{label}: no rows")
    return arrays


def _as_array(value: Any, bf16: bool) -> Array:
    import torch

    bits = as_bits(value)
    if bits is not None:
        return bits
    array = to_array(value) if isinstance(value, torch.Tensor) else np.ascontiguousarray(value)
    return narrow(array) if bf16 and array.dtype.kind == "f" else array


def bf16_names(given: Any, names: Sequence[str]) -> frozenset[str]:
    """The inputs whose rows are given as BF16, by torch or by ml_dtypes."""
    if isinstance(given, Mapping):
        pairs = [(str(k), v) for k, v in given.items()]
    else:
        pairs = list(zip(names, given if isinstance(given, tuple | list) else [given], strict=False))
    return frozenset(n for n, value in pairs if as_bits(value) is not None)


def parameter_names(module: torch.nn.Module, example_inputs: Any) -> tuple[str, ...]:
    """The first parameters of `forward`, as many as there are inputs."""
    if isinstance(example_inputs, Mapping):
        count = len(example_inputs)
    else:
        count = len(example_inputs) if isinstance(example_inputs, tuple | list) else 1
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in inspect.signature(module.forward).parameters.values() if p.kind in kinds]
    return tuple(names[:count]) if len(names) >= count else tuple(f"input_{i}" for i in range(count))


def examine(
    module: torch.nn.Module,
    examples: dict[str, Array],
    names: tuple[str, ...],
    output_names: tuple[str, ...],
    dynamic_axes: Mapping[str, Sequence[int]],
    bf16: frozenset[str] = frozenset(),
) -> Traced:
    """Run the module on two sizes and see which output dimensions move. `bf16` names the inputs that are bits."""
    import torch

    unknown = [n for n in dynamic_axes if n not in names]
    if unknown:
        raise PackageError(f"dynamic_axes: there is no input '{unknown[0]}'")
    dynamic = {n: tuple(sorted({0, *(int(a) for a in dynamic_axes.get(n, ()))})) for n in names}
    small = {n: np.resize(a, (max(2, len(a)), *a.shape[1:])) for n, a in examples.items()}
    large = {}
    for n, array in small.items():
        for axis in dynamic[n]:
            if not 0 <= axis < array.ndim:
                raise PackageError(f"dynamic_axes: input '{n}' has no axis {axis}")
            array = np.concatenate([array, array.take([-1], axis=axis)], axis=axis)  # noqa: PLW2901  # grows by steps
        large[n] = array
    with torch.inference_mode():
        try:
            answer = module(*(to_tensor(small[n], bf16=n in bf16) for n in names))
            grown = flatten_outputs(module(*(to_tensor(large[n], bf16=n in bf16) for n in names)))
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise PackageError(f"the module does not run on the example inputs: {first_line(error)}") from error
    answered = flatten_outputs(answer)
    tensors = [to_array(t) for t in answered]
    keys = output_names or tuple(output_keys(answer) or ())
    if not keys:
        keys = tuple("output" if i == 0 else f"output_{i}" for i in range(len(tensors)))
    if len(keys) != len(tensors):
        raise PackageError(f"output_names: {len(keys)} names for {len(tensors)} outputs")
    moves = {}
    for key, before, after in zip(keys, tensors, map(to_array, grown), strict=True):
        if before.ndim != after.ndim:
            raise PackageError(f"output '{key}' changes its rank with the input's size")
        moves[key] = tuple(i for i, (m, n) in enumerate(zip(before.shape, after.shape, strict=True)) if m != n)
        if 0 not in moves[key] or len(before) != len(next(iter(small.values()))):
            raise PackageError(f"output '{key}' does not have the batch as its first axis: it has {list(before.shape)}")
    return Traced(
        examples=small,
        outputs=dict(zip(keys, tensors, strict=True)),
        dynamic=dynamic,
        output_dynamic=moves,
        bf16_inputs=bf16,
        bf16_outputs=frozenset(k for k, t in zip(keys, answered, strict=True) if t.dtype is torch.bfloat16),
    )


def signature_of(
    traced: Traced,
    task: Task,
    displays: Mapping[str, InputDisplay],
    axes: Mapping[str, Sequence[str]],
    roles: Mapping[str, OutputRole],
) -> Signature:
    """The signature of a traced module, with given roles, displays and axis names and guessed roles for the rest.

    Raises:
        PackageError: something is given for a tensor that is not there, or a tensor cannot be carried by the protocol.
    """
    for label, given in (("displays", displays), ("input_axes", axes)):
        for n in given:
            if n not in traced.examples:
                raise PackageError(f"{label}: there is no input '{n}'")
    for n in roles:
        if n not in traced.outputs:
            raise PackageError(f"output_roles: there is no output '{n}' (there are: {', '.join(traced.outputs)})")
    shown = {n: widen(a) if n in traced.bf16_outputs else a for n, a in traced.outputs.items()}
    all_roles = guess_roles(shown, task) | dict(roles)
    try:
        return Signature(
            inputs=tuple(
                InputSpec(
                    name=n,
                    datatype=datatype_of(a, n in traced.bf16_inputs),
                    shape=_shape(a, traced.dynamic[n]),
                    axes=tuple(axes.get(n, ())),
                    display=displays.get(n, InputDisplay()),
                )
                for n, a in traced.examples.items()
            ),
            outputs=tuple(
                OutputSpec(
                    name=n,
                    datatype=datatype_of(a, n in traced.bf16_outputs),
                    shape=_shape(a, traced.output_dynamic[n]),
                    role=all_roles[n],
                    axes=_output_axes(all_roles[n], a.ndim),
                )
                for n, a in traced.outputs.items()
            ),
        )
    except ValueError as error:
        raise PackageError(f"signature: {error}") from None


def datatype_of(array: Array, bf16: bool) -> Datatype:
    """The protocol's datatype of an array, which may hold the bits of BF16.

    Raises:
        ValueError: the protocol cannot carry it.
    """
    return Datatype.BF16 if bf16 else Datatype.from_numpy(array.dtype)


def _shape(array: Array, dynamic: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(-1 if i in dynamic else int(n) for i, n in enumerate(array.shape))


def _output_axes(role: OutputRole, rank: int) -> tuple[str, ...]:
    if rank == 2 and role in (OutputRole.LOGITS, OutputRole.PROBABILITIES):
        return (BATCH_AXIS, "class")
    if rank == 2 and role is OutputRole.EMBEDDING:
        return (BATCH_AXIS, "feature")
    return ()
