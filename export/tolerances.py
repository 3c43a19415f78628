"""How near two runs of one model can be asked to come, by what it computes in, where nobody said it."""

from __future__ import annotations

from collections.abc import Iterable

from export.contracts.datatypes import Datatype
from export.contracts.manifest import Tolerance

# A few roundings at the end of a network: BF16 keeps 8 bits of a number, FP16 11 (docs/decisions/0275).
BF16_TOLERANCE = Tolerance(absolute=3e-2, relative=3e-2)
FP16_TOLERANCE = Tolerance(absolute=4e-3, relative=4e-3)


def default_tolerance(datatypes: Iterable[Datatype]) -> Tolerance:
    """The tolerance of parity and golden cases by the coarsest datatype among weights, inputs and outputs.

    Example:
        >>> default_tolerance([Datatype.FP32, Datatype.BF16]).relative
        0.03
    """
    found = set(datatypes)
    if Datatype.BF16 in found:
        return BF16_TOLERANCE
    return FP16_TOLERANCE if Datatype.FP16 in found else Tolerance()
