"""What running one batch leaves behind: carried from the thread that ran it to the loop that answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from export.contracts.errors import HardcaseError
from serving.answer import BatchOutputs
from serving.runtime.base import Array


@dataclass(slots=True)
class Execution:
    """What running a batch left behind. Exactly one of `outputs` and `error` is set."""

    inputs: Sequence[Array] = ()
    outputs: BatchOutputs | None = None
    error: HardcaseError | None = None
    begun_ns: int = 0
    input_ns: int = 0
    infer_ns: int = 0
