"""TorchScript on one device as a function of tensors. It is code: only files of admitted packages come here."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from export.contracts.datatypes import Datatype
from export.contracts.errors import ModelFailed
from export.contracts.signature import InputSpec, OutputSpec, Signature
from serving.options import Precision
from serving.runtime.base import Array, LoadFailed

_log = logging.getLogger("hardcase.runtime.torch")
_FLOATS = {
    Datatype.FP16: "float16",
    Datatype.BF16: "bfloat16",
    Datatype.FP32: "float32",
    Datatype.FP64: "float64",
}
_PRECISIONS = {Precision.FP16: "float16", Precision.BF16: "bfloat16"}


class TorchProgram:
    """A frozen module that takes and returns tensors of the signature's datatypes.

    Args:
        torch: The library.
        path: The TorchScript file.
        signature: What it promises.
        device: Torch's object for the device.
        precision: What it computes in. The weights are converted once; inputs and outputs with every batch.

    Raises:
        LoadFailed: the file does not load, takes another number of inputs, or the signature has text.
    """

    def __init__(self, torch: Any, path: Path, signature: Signature, device: Any, precision: Precision) -> None:
        specs: tuple[InputSpec | OutputSpec, ...] = (*signature.inputs, *signature.outputs)
        texts = [s.name for s in specs if s.datatype is Datatype.BYTES]
        if texts:
            raise LoadFailed(f"wrong signature: '{texts[0]}' is BYTES, and TorchScript has no text tensors")
        self._module = _load(torch, path, device)
        _check_arity(self._module, signature)
        self._outputs = signature.outputs
        self._bits = torch.bfloat16
        self._bits_in = [s.datatype is Datatype.BF16 for s in signature.inputs]
        self._work: Any = None  # the dtype that is computed in, where it is not the file's own
        if precision is not Precision.AS_EXPORTED:
            self._work = getattr(torch, _PRECISIONS[precision])
            convert_weights(self._module, self._work)
        self._floats = [getattr(torch, _FLOATS[s.datatype]) if s.datatype.is_float else None for s in self._outputs]
        self.writes_inputs = _writes_its_tensors(self._module)

    def __call__(self, inputs: Sequence[Any], outputs: Sequence[int] | None = None) -> list[Any]:
        """Compute one batch.

        Args:
            inputs: Tensors on the device, in signature order; BF16 as the uint16 of its bits.
            outputs: Indices of the wanted outputs; None: all.

        Raises:
            ModelFailed: another number of outputs than the signature's.
        """
        inputs = [t.view(self._bits) if bits else t for t, bits in zip(inputs, self._bits_in, strict=True)]
        if self._work is not None:
            inputs = [t.to(self._work) if t.is_floating_point() else t for t in inputs]
        wanted = range(len(self._outputs)) if outputs is None else outputs
        results = self._select(self._module(*inputs), wanted)
        if self._work is not None:
            results = [
                t.to(self._floats[i]) if self._floats[i] is not None and t.is_floating_point() else t
                for i, t in zip(wanted, results, strict=True)
            ]
        return results

    def _select(self, answer: Any, outputs: Sequence[int]) -> list[Any]:
        """The wanted tensors of what the module returned: a tensor, a tuple or list of them, or a dict by name."""
        if isinstance(answer, dict):
            return [answer[self._outputs[i].name] for i in outputs]
        every = list(answer) if isinstance(answer, tuple | list) else [answer]
        if len(every) != len(self._outputs):
            raise ModelFailed(f"the model returned {len(every)} outputs, its signature has {len(self._outputs)}")
        return [every[i] for i in outputs]


def convert_weights(module: Any, dtype: Any) -> None:
    """Convert the floating-point constants of a frozen module, which are its weights, to another dtype."""
    for node in module.graph.findAllNodes("prim::Constant"):
        if node.hasAttribute("value") and node.kindOf("value") == "t":
            value = node.t("value")
            if value.is_floating_point():
                node.t_("value", value.to(dtype))


def to_numpy(torch: Any, tensor: Any) -> Array:
    """A tensor on the CPU as a C-contiguous array; BF16 as the uint16 of its bits."""
    tensor = tensor.contiguous()
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.uint16).numpy()  # type: ignore[no-any-return] # torch is passed as Any
    return tensor.numpy()  # type: ignore[no-any-return] # torch is passed as Any


def _load(torch: Any, path: Path, device: Any) -> Any:
    """The frozen module in evaluation mode.

    Raises:
        LoadFailed: the file is not TorchScript that this torch reads.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch calls all of TorchScript deprecated
        try:
            return torch.jit.freeze(torch.jit.load(str(path), map_location=device).eval())
        except Exception as error:
            _log.error("torch refused the file: %s", error)
            raise LoadFailed("torch cannot load the weights: the log has its reason") from error


def _check_arity(module: Any, signature: Signature) -> None:
    """Hold the number of inputs against the signature; dtypes and shapes show in the golden cases.

    Raises:
        LoadFailed: says both numbers.
    """
    arguments = module.forward.schema.arguments[1:]
    required = sum(not argument.has_default_value() for argument in arguments)
    if not required <= len(signature.inputs) <= len(arguments):
        raise LoadFailed(
            f"wrong signature: the model takes {len(arguments)} inputs, the signature has {len(signature.inputs)}"
        )


def _writes_its_tensors(module: Any) -> bool:
    """Whether any operator of the module writes in place, so that inputs must be copied to stay what they were."""
    return any(_writes(node) for node in _nodes(module.inlined_graph))


def _nodes(block: Any) -> Any:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def _writes(node: Any) -> bool:
    return "!" in node.schema()  # "Tensor(a!) self" marks an argument that is written
