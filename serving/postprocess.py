"""What a request may have done to an output before it is answered. Records keep what the model said.

The requested output's parameters decide: `{"softmax": true}` turns class scores into probabilities, and
`{"classification": n}` lists the best classes, of the probabilities when both are there.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from export.contracts.bf16 import narrow, numbers
from export.contracts.datatypes import Datatype
from export.contracts.errors import InvalidRequest
from export.contracts.signature import OutputRole, OutputSpec
from serving.tensors import Array

CLASS_AXIS = "class"


def check_softmax(spec: OutputSpec, batched: bool, field: str) -> None:
    """Whether class scores of an output can become probabilities.

    Raises:
        InvalidRequest: they are none, are probabilities already, or of a datatype that is not computed with.
    """
    if not spec.datatype.is_float:
        raise InvalidRequest(f"{field}: softmax needs a float output, this one is {spec.datatype}")
    if spec.role not in (OutputRole.LOGITS, OutputRole.OTHER, OutputRole.INTERNAL):
        raise InvalidRequest(f"{field}: softmax needs class scores, this output's role is {spec.role}")
    if len(spec.shape) <= batched:
        raise InvalidRequest(f"{field}: softmax needs a class axis, this output has the shape {list(spec.shape)}")


def softmax(array: Array, spec: OutputSpec) -> Array:
    """Probabilities along the class axis, in the output's datatype: the axis named "class", else the last.

    The largest score is subtracted first, so that no finite score overflows; FP16 and BF16 are computed in float32.
    NaN and plus infinity give NaN in their row, as in torch.

    Example:
        >>> spec = OutputSpec(name="y", datatype=Datatype.FP32, shape=(-1, 2))
        >>> softmax(np.array([[1000.0, 1000.0]], np.float32), spec).tolist()
        [[0.5, 0.5]]
    """
    axis = spec.axes.index(CLASS_AXIS) if CLASS_AXIS in spec.axes else -1
    if not array.size:
        return array
    bf16 = spec.datatype is Datatype.BF16
    wide = array.astype(np.float32) if array.dtype == np.float16 else numbers(spec.datatype, array)
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        p = np.exp(wide - wide.max(axis=axis, keepdims=True))
        p /= p.sum(axis=axis, keepdims=True)
    return narrow(p) if bf16 else np.ascontiguousarray(p, dtype=array.dtype)


def classify(array: Array, count: int, labels: Sequence[str], batched: bool) -> Array:
    """The classification extension: the `count` largest values of each row as "<value>:<index>[:<label>]".

    Args:
        array: (rows, ...) class scores, or (...) when not batched.
        count: How many classes are wanted; fewer come back when there are fewer.
        labels: Class names by index; may be empty.
        batched: Whether axis 0 of `array` is the batch axis.

    Returns:
        Object array of bytes, (rows, count) or (count,), largest first, ties by index.

    Example:
        >>> classify(np.array([[0.5, 2.0]]), 1, ("cat", "dog"), True).tolist()
        [[b'2.000000:1:dog']]
    """
    scores = array.reshape((array.shape[0], -1) if batched else (1, -1))  # (rows, classes)
    count = min(count, scores.shape[1])
    order = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :count]
    result = np.empty(order.shape, dtype=object)
    for row, indices in enumerate(order):
        for place, index in enumerate(indices):
            text = f"{float(scores[row, index]):f}:{index}"
            label = f":{labels[index]}" if index < len(labels) else ""
            result[row, place] = (text + label).encode()
    return result if batched else result[0]
