"""The input of a stored case as tensors that can be sent again."""

from __future__ import annotations

import numpy as np

from export.contracts.arrays import decode_bytes
from export.contracts.datatypes import Datatype
from export.contracts.signature import Signature
from monitoring.explore.serving_client import Tensor
from monitoring.store import Store


def kept_row(store: Store, case: str, signature: Signature) -> list[Tensor] | None:
    """The row that a case is about; None where its input is not kept, or is not what the signature takes."""
    found = store.case(case)
    tensors = {x.name: x for x in store.case_tensors(case, "in")} if found is not None else {}
    if found is None or found.input_state != "kept" or set(tensors) != {spec.name for spec in signature.inputs}:
        return None
    made = []
    for spec in signature.inputs:
        kept = tensors[spec.name]
        datatype = Datatype(kept.datatype)
        if datatype is not spec.datatype:
            return None
        if datatype is Datatype.BYTES:
            array = decode_bytes(kept.data, kept.shape)
        else:
            array = np.frombuffer(kept.data, dtype=datatype.numpy).reshape(kept.shape)
        if signature.batched:
            row = found.row if len(array) > 1 else 0
            array = array[row : row + 1]
        elif array.shape[:1] == (1,) and len(array.shape) > len(spec.shape):
            array = array[0]
        fits = len(array.shape) == len(spec.shape)
        if not fits or any(a not in (-1, b) for a, b in zip(spec.shape, array.shape, strict=True)):
            return None
        made.append(Tensor(name=spec.name, datatype=datatype, array=array))
    return made
