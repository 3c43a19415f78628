"""Scores, watched values and flags of a batch of records, vectorised.

What an answer means is asked of the version's task (`monitoring.tasks`); the formulas are `export.contracts.scores`.
Computed in float64 and kept in float32: how a batch was cut may change the last bits of a matrix product, and float32
rounds them away, so that a record scores the same whichever batch it came in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.bf16 import narrow, widen
from export.contracts.cases import FlagReason
from export.contracts.datatypes import Datatype
from export.contracts.descriptors import frame
from export.contracts.scores import ScoreName
from export.contracts.signature import InputSpec
from monitoring.baseline import Baseline, compile_baseline
from monitoring.batches import Batch
from monitoring.flags import FLAG_BITS
from monitoring.options import CaseOptions
from monitoring.records.record import Outcome
from monitoring.score_fits.book import InForce, apply_fits
from monitoring.tasks.protocol import Answered

Array: TypeAlias = npt.NDArray[Any]
Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float32]
RANK_TIE = 1e-6  # weight of 1 - confidence in the rank: separates records whose P(wrong) rounds to the same number


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """What the scores say of a batch of N records with R rows.

    Attributes:
        answered: What the task reads out of the outputs.
        values: Watched quantities, (R, Q) float32; NaN where a quantity is not known.
        worst: Row with the highest P(wrong) of each record, (N,); the record's first row when none is known.
        flags: Reasons of each record as bits, (N,); without audit and feedback.
        fit: Which P(wrong) scored each record, (N,): 0 is the one made at export, others are `score_fits.number`.
        known: False when the batch could not be scored.
    """

    answered: Answered
    values: Floats
    worst: Ints
    flags: Ints
    fit: Ints
    known: bool = True

    @property
    def predicted(self) -> Ints:
        """Class index per row, (R,); -1 where there is none."""
        return self.answered.predicted

    @property
    def p_wrong(self) -> Floats:
        """P(wrong) per row, (R,), NaN where not known."""
        return self.answered.p_wrong

    @property
    def confidence(self) -> Floats:
        """How sure the answer is, (R,), NaN where not known."""
        return self.answered.confidence

    @property
    def features(self) -> npt.NDArray[np.float64] | None:
        """Random Fourier features of the embedding, (R, D), or None."""
        return self.answered.features

    def unknown(self, quantities: int) -> Scored:
        """The same for a batch that could not be scored, with room for so many watched quantities."""
        return replace(self, values=np.full((len(self.values), quantities), np.nan, dtype=np.float32), known=False)

    @property
    def ranks(self) -> npt.NDArray[np.float64]:
        """Place of each record in the queue by its worst row, (N,); 0 without scores."""
        if not len(self.p_wrong):
            return np.zeros(len(self.worst))
        p = self.p_wrong[self.worst].astype(np.float64)
        sure = self.confidence[self.worst].astype(np.float64)
        return np.asarray(np.where(np.isfinite(p), p + RANK_TIE * (1.0 - sure), 0.0))


def score_batch(baseline: Baseline, batch: Batch, options: CaseOptions, fits: Sequence[InForce] = ()) -> Scored:
    """Score every row of a batch.

    `fits` are the version's refits of P(wrong), oldest first; the one of a record's time scores it.

    Raises:
        ValueError: the tensors do not fit the version's signature.
    """
    rows = len(batch.row_record)
    values = np.full((rows, len(baseline.quantities)), np.nan, dtype=np.float32)
    if baseline.input_columns and batch.inputs and baseline.manifest is not None:
        values[:, : baseline.input_columns] = _watched(baseline, batch)
    answered = baseline.task.answer(batch)
    refitted = None
    if fits and baseline.profile is not None and ScoreName.P_WRONG.value in answered.scores:
        times = batch.time_ns[batch.row_record]
        refitted = apply_fits(fits, baseline.profile, answered.scores, times, options.flag_rate)
    if refitted is not None:
        scores = {**answered.scores, ScoreName.P_WRONG.value: refitted.p_wrong}
        answered = replace(answered, scores=scores, p_wrong=refitted.p_wrong.astype(np.float32))
    worst = _worst_rows(batch, answered.p_wrong)
    for name, column in answered.scores.items():
        if name in baseline.index:
            values[:, baseline.index[name]] = column
    return Scored(
        answered=answered,
        values=values,
        worst=worst,
        flags=_flags(baseline, batch, options, answered, None if refitted is None else refitted.least),
        fit=np.zeros(len(batch), dtype=np.int64) if refitted is None or not rows else refitted.number[worst],
    )


def blank(baseline: Baseline, batch: Batch) -> Scored:
    """What is said of a batch that cannot be scored: nothing, except how its requests ended."""
    bare = replace(batch, inputs={}, outputs={})
    return score_batch(compile_baseline(None, None), bare, CaseOptions()).unknown(len(baseline.quantities))


def _watched(baseline: Baseline, batch: Batch) -> Floats:
    manifest = baseline.manifest
    assert manifest is not None
    inputs = batch.inputs
    missing = [spec for spec in manifest.signature.inputs if spec.name not in inputs]
    if missing:  # redacted: what is not recorded is not known, and the other inputs are watched as ever
        unknown = _unknown_inputs(missing, len(batch.row_record), batched=manifest.signature.batched)
        if unknown is None:
            return np.full((len(batch.row_record), baseline.input_columns), np.nan, dtype=np.float32)
        inputs = inputs | unknown
    if manifest.signature.batched:
        return frame(manifest.signature, inputs)
    one_by_one = [
        frame(manifest.signature, {name: array[row] for name, array in inputs.items()})
        for row in range(len(batch.row_record))
    ]
    return np.concatenate(one_by_one)


def _unknown_inputs(specs: list[InputSpec], rows: int, *, batched: bool) -> dict[str, Array] | None:
    """NaN in the place of inputs that were not recorded; None where one is text, or of any size."""
    made: dict[str, Array] = {}
    for spec in specs:
        shape = tuple(spec.shape[1:] if batched else spec.shape)
        if spec.datatype is Datatype.BYTES or min(shape, default=1) < 0:
            return None
        nothing = np.full((rows, *shape), np.nan, dtype=np.float32)
        made[spec.name] = narrow(nothing) if spec.datatype is Datatype.BF16 else nothing
    return made


def _worst_rows(batch: Batch, p_wrong: Floats) -> Ints:
    if len(batch.row_record) == len(batch) and bool((batch.rows == 1).all()):
        return np.arange(len(batch))
    worst = np.zeros(len(batch), dtype=np.int64)
    for record in range(len(batch)):
        rows = batch.rows_of(record)
        part = np.nan_to_num(p_wrong[rows], nan=-1.0)
        worst[record] = rows.start + (int(np.argmax(part)) if len(part) else 0)
    return worst


def _flags(
    baseline: Baseline, batch: Batch, options: CaseOptions, answered: Answered, refit_level: Array | None
) -> Ints:
    flags = np.zeros(len(batch), dtype=np.int64)
    if batch.outcome is Outcome.FAILED:
        flags |= FLAG_BITS[FlagReason.RULE_ERROR]
    if batch.outcome is Outcome.DEADLINE:
        flags |= FLAG_BITS[FlagReason.RULE_DEADLINE]
    profile, novelty = baseline.profile, baseline.task.novelty
    level = None if profile is None else profile.score_at(ScoreName.P_WRONG, 1.0 - options.flag_rate)
    least: Any = options.flag_above if level is None else level
    if refit_level is not None:
        least = np.where(np.isnan(refit_level), least, refit_level)
    _mark(flags, batch, np.asarray(answered.p_wrong > least), FlagReason.LOW_CONFIDENCE)
    if profile is not None and novelty is not None and novelty in answered.scores:
        far, distance = profile.score_at(novelty, options.novelty_level), answered.scores[novelty]
        if far is not None:
            _mark(flags, batch, np.asarray(distance.astype(np.float32) > far), FlagReason.NOVELTY)
    manifest = baseline.manifest
    bits = () if manifest is None else {s.name for s in manifest.signature.outputs if s.datatype is Datatype.BF16}
    for name, array in batch.outputs.items():
        output = widen(array) if name in bits else array
        if output.dtype.kind == "f":
            finite = np.isfinite(output.reshape(len(output), -1)).all(axis=1)
            _mark(flags, batch, np.asarray(~finite), FlagReason.RULE_NOT_FINITE)
    return flags


def _mark(flags: Ints, batch: Batch, rows: npt.NDArray[np.bool_], reason: FlagReason) -> None:
    """Set a reason on every record that has one of `rows`."""
    if rows.any():
        flags[np.unique(batch.row_record[rows])] |= FLAG_BITS[reason]
