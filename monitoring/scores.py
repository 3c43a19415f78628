"""Scores, watched input values and flags of a batch of records, vectorised. The formulas are `export.contracts.scores`.

Computed in float64 and kept in float32: how a batch was cut may change the last bits of a matrix product, and float32
rounds them away, so that a record scores the same whichever batch it came in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.cases import FlagReason
from export.contracts.datatypes import Datatype
from export.contracts.descriptors import frame
from export.contracts.scores import ScoreName, softmax, softmax_scores
from export.contracts.signature import OutputRole, OutputSpec
from monitoring.baseline import Baseline, compile_baseline
from monitoring.batches import Batch
from monitoring.flags import FLAG_BITS
from monitoring.options import CaseOptions
from monitoring.records.record import Outcome

Array: TypeAlias = npt.NDArray[Any]
Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float32]
RANK_TIE = 1e-6  # weight of 1 - MSP in the rank: separates records whose P(wrong) rounds to the same number


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """What the scores say of a batch of N records with R rows.

    Attributes:
        values: Watched quantities, (R, Q) float32; NaN where a quantity is not known.
        predicted: Class index per row, (R,); -1 where there is none.
        probabilities: Calibrated class probabilities, (R, C), or None.
        answer: First value of a regression's answer per row, (R,) float64, or None.
        features: Random Fourier features of the embedding, (R, D), or None.
        p_wrong: (R,) float32, NaN where not known.
        confidence: Calibrated MSP, (R,) float32, NaN where not known.
        worst: Row with the highest P(wrong) of each record, (N,); the record's first row when none is known.
        flags: Reasons of each record as bits, (N,); without audit and feedback.
        known: False when the batch could not be scored.
    """

    values: Floats
    predicted: Ints
    probabilities: npt.NDArray[np.float64] | None
    answer: npt.NDArray[np.float64] | None
    features: npt.NDArray[np.float64] | None
    p_wrong: Floats
    confidence: Floats
    worst: Ints
    flags: Ints
    known: bool = True

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


def score_batch(baseline: Baseline, batch: Batch, options: CaseOptions) -> Scored:
    """Score every row of a batch.

    Raises:
        ValueError: the tensors do not fit the version's signature.
    """
    rows = len(batch.row_record)
    values = np.full((rows, len(baseline.quantities)), np.nan, dtype=np.float32)
    if baseline.input_columns and batch.inputs and baseline.manifest is not None:
        values[:, : baseline.input_columns] = _watched(baseline, batch)
    logits = _rows_of(batch, baseline.class_output)
    embedding = _rows_of(batch, baseline.embedding_output)
    probabilities = None if logits is None else _probabilities(baseline, logits)
    scores = _scores(baseline, logits, probabilities, embedding)
    for name, column in scores.items():
        if name in baseline.index:
            values[:, baseline.index[name]] = column
    finite = np.isfinite(logits).all(axis=1) if logits is not None else np.ones(rows, dtype=bool)
    predicted = np.full(rows, -1, dtype=np.int64)
    if logits is not None:
        predicted[finite] = np.argmax(logits[finite], axis=1)
    unknown = np.full(rows, np.nan, dtype=np.float32)
    p_wrong = scores.get(ScoreName.P_WRONG.value, unknown).astype(np.float32)
    answer = _rows_of(batch, baseline.value_output)
    profile = baseline.profile
    return Scored(
        values=values,
        predicted=predicted,
        probabilities=probabilities,
        answer=None if answer is None else np.asarray(answer[:, 0], dtype=np.float64),
        features=None
        if embedding is None or profile is None or profile.embedding is None
        else profile.embedding.features(embedding),
        p_wrong=p_wrong,
        confidence=scores.get(ScoreName.MSP.value, unknown).astype(np.float32),
        worst=_worst_rows(batch, p_wrong),
        flags=_flags(baseline, batch, options, p_wrong, scores.get(ScoreName.RMDS.value)),
    )


def blank(baseline: Baseline, batch: Batch) -> Scored:
    """What is said of a batch that cannot be scored: nothing, except how its requests ended."""
    bare = replace(batch, inputs={}, outputs={})
    return score_batch(compile_baseline(None, None), bare, CaseOptions()).unknown(len(baseline.quantities))


def _watched(baseline: Baseline, batch: Batch) -> Floats:
    manifest = baseline.manifest
    assert manifest is not None
    missing = [spec.name for spec in manifest.signature.inputs if spec.name not in batch.inputs]
    if missing:
        raise ValueError(f"input '{missing[0]}' was not recorded")
    if manifest.signature.batched:
        return frame(manifest.signature, batch.inputs)
    one_by_one = [
        frame(manifest.signature, {name: array[row] for name, array in batch.inputs.items()})
        for row in range(len(batch.row_record))
    ]
    return np.concatenate(one_by_one)


def _rows_of(batch: Batch, spec: OutputSpec | None) -> Array | None:
    """An output as (rows, features), or None when it was not recorded."""
    array = None if spec is None else batch.outputs.get(spec.name)
    if array is None or spec is None or array.dtype == object:
        return None
    flat = array.reshape(len(array), -1)
    if spec.datatype is Datatype.BF16:  # travels as the upper half of a float32
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return flat


def _probabilities(baseline: Baseline, logits: Array) -> npt.NDArray[np.float64]:
    profile, spec = baseline.profile, baseline.class_output
    if baseline.classes and logits.shape[1] != baseline.classes:
        raise ValueError(f"{logits.shape[1]} class scores for {baseline.classes} classes")
    if profile is not None and profile.classes is not None:
        return profile.classes.probabilities(logits)
    if spec is not None and spec.role is OutputRole.PROBABILITIES:
        return np.asarray(logits, dtype=np.float64)
    return softmax(logits)


def _scores(
    baseline: Baseline, logits: Array | None, probabilities: npt.NDArray[np.float64] | None, embedding: Array | None
) -> dict[str, npt.NDArray[np.float64]]:
    if probabilities is None:
        return {}
    scores = softmax_scores(probabilities)
    profile = baseline.profile
    if profile is None:
        return scores | {ScoreName.P_WRONG.value: 1.0 - scores[ScoreName.MSP.value]}
    if profile.embedding is not None and embedding is not None:
        distance = profile.embedding.rmds(embedding)
        if distance is not None:
            scores[ScoreName.RMDS.value] = distance
    return scores | {ScoreName.P_WRONG.value: profile.p_wrong(scores)}


def _worst_rows(batch: Batch, p_wrong: Floats) -> Ints:
    if len(batch.row_record) == len(batch) and bool((batch.rows == 1).all()):
        return np.arange(len(batch))
    worst = np.zeros(len(batch), dtype=np.int64)
    for record in range(len(batch)):
        rows = batch.rows_of(record)
        part = np.nan_to_num(p_wrong[rows], nan=-1.0)
        worst[record] = rows.start + (int(np.argmax(part)) if len(part) else 0)
    return worst


def _flags(baseline: Baseline, batch: Batch, options: CaseOptions, p_wrong: Floats, distance: Array | None) -> Ints:
    flags = np.zeros(len(batch), dtype=np.int64)
    if batch.outcome is Outcome.FAILED:
        flags |= FLAG_BITS[FlagReason.RULE_ERROR]
    if batch.outcome is Outcome.DEADLINE:
        flags |= FLAG_BITS[FlagReason.RULE_DEADLINE]
    level = None if baseline.profile is None else baseline.profile.score_at(ScoreName.P_WRONG, 1.0 - options.flag_rate)
    least = options.flag_above if level is None else level
    _mark(flags, batch, np.asarray(p_wrong > least), FlagReason.LOW_CONFIDENCE)
    far = None if baseline.profile is None else baseline.profile.score_at(ScoreName.RMDS, options.novelty_level)
    if distance is not None and far is not None:
        _mark(flags, batch, np.asarray(distance.astype(np.float32) > far), FlagReason.NOVELTY)
    for output in batch.outputs.values():
        if output.dtype.kind == "f":
            finite = np.isfinite(output.reshape(len(output), -1)).all(axis=1)
            _mark(flags, batch, np.asarray(~finite), FlagReason.RULE_NOT_FINITE)
    return flags


def _mark(flags: Ints, batch: Batch, rows: npt.NDArray[np.bool_], reason: FlagReason) -> None:
    """Set a reason on every record that has one of `rows`."""
    if rows.any():
        flags[np.unique(batch.row_record[rows])] |= FLAG_BITS[reason]
