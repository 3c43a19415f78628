"""What a module computes in, as far as its weights and tensors show."""

from __future__ import annotations

from typing import TYPE_CHECKING

from export.contracts.datatypes import Datatype
from export.torch_trace import Traced, datatype_of

if TYPE_CHECKING:
    import torch


def datatypes(module: torch.nn.Module, traced: Traced) -> set[Datatype]:
    """BF16 and FP16 among its weights, and everything that goes in and out. What `forward` casts to does not show."""
    import torch

    found = {datatype_of(a, n in traced.bf16_inputs) for n, a in traced.examples.items()}
    found |= {datatype_of(a, n in traced.bf16_outputs) for n, a in traced.outputs.items()}
    weights = {t.dtype for t in (*module.parameters(), *module.buffers())}
    named = {torch.bfloat16: Datatype.BF16, torch.float16: Datatype.FP16}
    return found | {datatype for dtype, datatype in named.items() if dtype in weights}
