"""One pass of a challenger in the shadow: run on rows that the champion has answered, compare, record."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import TYPE_CHECKING

import numpy as np

from export.contracts.errors import HardcaseError, ModelFailed
from export.contracts.traffic import Variant
from monitoring.records.record import Outcome
from serving.capture import elapsed_ns
from serving.comparison import Comparator, Comparison
from serving.entry import Entry
from serving.runtime.base import Array
from serving.stats import ReleaseReason

if TYPE_CHECKING:
    from serving.answer import BatchOutputs
    from serving.version import LoadedVersion

_log = logging.getLogger("hardcase.shadow")


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """A champion's batch, or the part of it that is mirrored.

    Attributes:
        entries: The requests.
        rows: Index of their rows within the arrays; None when they are all of them.
        row_count: How many rows.
        inputs: The champion's input arrays.
        outputs: The champion's outputs.
        infer_ns: Time of the champion's batch in the runtime, for these rows.
    """

    entries: list[Entry]
    rows: Array | None
    row_count: int
    inputs: list[Array]
    outputs: BatchOutputs
    infer_ns: int
    nbytes: int


@dataclass(slots=True)
class Passed:
    """What a pass left behind: exactly one of `outputs` and `error` is set.

    `spent_ns` is what it took beside the model's own computing: the interpreter's time.
    """

    begun_ns: int = 0
    infer_ns: int = 0
    spent_ns: int = 0
    outputs: BatchOutputs | None = None
    comparison: Comparison | None = None
    error: HardcaseError | None = None


def run_pass(challenger: LoadedVersion, comparator: Comparator, batch: Sequence[Waiting]) -> Passed:
    """Run the challenger and compare. On the shadow's thread; never raises.

    Args:
        challenger: Who runs.
        comparator: Knows which outputs belong together.
        batch: Champion's batches of equal row shapes.
    """
    passed = Passed(begun_ns=perf_counter_ns())
    try:
        inputs = [_joined([_rows(w.inputs[i], w.rows) for w in batch]) for i in range(len(batch[0].inputs))]
        rows = sum(w.row_count for w in batch)
        begun_ns = perf_counter_ns()
        outputs = challenger.run_beside(inputs, rows)
        passed.infer_ns = perf_counter_ns() - begun_ns
        passed.comparison = comparator.compare([(w.outputs, w.rows) for w in batch], outputs, rows)
        passed.outputs = outputs
    except HardcaseError as error:
        passed.error = error
    except Exception:
        _log.exception("a pass of %s/%s in the shadow failed", challenger.model, challenger.version)
        passed.error = ModelFailed("the model failed on this batch")
    passed.spent_ns = perf_counter_ns() - passed.begun_ns - passed.infer_ns
    return passed


def record_pass(challenger: LoadedVersion, entries: list[Entry], passed: Passed) -> None:
    """Count a pass and record its requests. On the loop.

    The records have the ids of the champion's, so that the two can be paired, and no inputs: the champion's hold them.
    """
    outcome = Outcome.OK if passed.error is None else Outcome.FAILED
    count, stats = len(entries), challenger.stats
    challenger.capture.received(count)
    stats.executed(sum([e.plan.rows for e in entries]), ReleaseReason.SHADOW, 0, passed.infer_ns)
    key = (Variant.SHADOW, outcome)
    stats.requests[key] = stats.requests.get(key, 0) + count
    challenger.capture.offer(
        entries,
        outcome,
        total_ns=elapsed_ns(entries),
        queue_ns=[passed.begun_ns - e.received_ns for e in entries],
        compute_ns=passed.infer_ns,
        outputs=passed.outputs,
        error=passed.error.message if passed.error is not None else None,
        variant=Variant.SHADOW,
    )


def _rows(array: Array, rows: Array | None) -> Array:
    return array if rows is None else array[rows]


def _joined(arrays: Sequence[Array]) -> Array:
    return np.ascontiguousarray(arrays[0]) if len(arrays) == 1 else np.concatenate(arrays)
