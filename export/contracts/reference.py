"""The reference profile: what a version's inputs, outputs and embeddings look like on held-out labelled data.

Compiled once at export (`export.reference`), stored in the package as `reference.json` + `reference.npz` (no pickle),
and never re-read from raw data. Monitoring compares live traffic with it through the functions here and in `scores` and
`descriptors`, so both sides use one code.

Size: at most 256 features and a few descriptors (2.2 kB of sketch each), 2,000 sample rows, embeddings reduced to a
rank of at most 256 and samples bounded by `MAX_ARRAY_BYTES` each: below 1 MB for usual models, below 16 MB always.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts.accuracy import AccuracyReference
from export.contracts.answers.reference import AnswerReference
from export.contracts.embedding_reference import MMD_LEVELS, EmbeddingReference
from export.contracts.scores import (
    FailureModel,
    Float64s,
    Floats,
    ScoreName,
    energy,
    flat_rows,
    pnorm,
    softmax,
    softmax_scores,
    temper,
)
from export.contracts.signature import OutputRole

REFERENCE_SCHEMA_VERSION = 1
REFERENCE_FILE = "reference.json"
REFERENCE_ARRAYS = "reference.npz"
MAX_ARRAY_BYTES = 4 << 20
QUANTILE_LEVELS = np.linspace(0.0, 1.0, 1001)  # a 0.1 % grid
Array: TypeAlias = npt.NDArray[Any]

__all__ = [
    "MAX_ARRAY_BYTES",
    "MMD_LEVELS",
    "QUANTILE_LEVELS",
    "REFERENCE_ARRAYS",
    "REFERENCE_FILE",
    "REFERENCE_SCHEMA_VERSION",
    "ClassReference",
    "EmbeddingReference",
    "ReferenceProfile",
    "answered",
]


def answered(class_output: Floats) -> npt.NDArray[np.int64]:
    """Class index with the largest score, (rows, classes) → (rows,); 0 for a row with a NaN, whose scores are NaN."""
    flat = flat_rows(class_output)
    return np.asarray(np.argmax(np.where(np.isnan(flat), -np.inf, flat) if np.isnan(flat).any() else flat, axis=1))


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassReference:
    """A classifier on the reference.

    Attributes:
        output: Output that carries the class scores, and its role (logits or probabilities).
        temperature: Divides the logits so that confidences are calibrated (minimum NLL on the reference).
        label_counts: Ground truth, (classes,) int64.
        predicted_counts: Predictions, (classes,) int64.
        confusion: (classes, classes) int64, row = truth, column = prediction; None above 256 classes.
        accuracy: Share of right answers.
        nll: Mean negative log-likelihood (nats) at the temperature; `nll_before` without it.
        failure_model: P(wrong), or None where the reference has too few errors to fit it: then 1 - MSP.
        pnorm: The norm of MaxLogit-pNorm; None where no norm ranks the reference's errors better than MSP does.
        score_names: Columns of `score_rows`.
        score_rows: Scores of reference rows, (rows <= 2000, scores) float32, what is fitted on them out of fold: what
            another P(wrong) has its threshold from. None in references made before it was kept.
        score_wrong: Whether those rows were answered wrong, (rows,) bool.
    """

    output: str
    role: OutputRole
    class_names: tuple[str, ...]
    temperature: float
    label_counts: Array
    predicted_counts: Array
    confusion: Array | None
    accuracy: float
    nll: float
    nll_before: float
    failure_model: FailureModel | None
    pnorm: int | None = None
    score_names: tuple[str, ...] = ()
    score_rows: Array | None = None
    score_wrong: Array | None = None

    def probabilities(self, output: Floats) -> Float64s:
        """Calibrated class probabilities of the output, (rows, classes)."""
        flat = flat_rows(output)
        return (softmax if self.role is OutputRole.LOGITS else temper)(flat, self.temperature)

    def scores(self, output: Floats, probabilities: Floats | None = None) -> dict[str, Float64s]:
        """Every score that the output alone gives, by `ScoreName`, (rows,) each.

        Args:
            output: (rows, classes).
            probabilities: What `probabilities` said of it, when it was asked already.
        """
        flat = flat_rows(output)
        out = softmax_scores(self.probabilities(flat) if probabilities is None else probabilities)
        if self.role is OutputRole.LOGITS:
            if self.pnorm is not None:
                out[ScoreName.PNORM.value] = pnorm(flat, self.pnorm)
            out[ScoreName.ENERGY.value] = energy(flat)
        return out


@dataclass(frozen=True, kw_only=True, eq=False)
class ReferenceProfile:
    """Everything compiled; a part is None or empty when the model has no such output.

    Attributes:
        rows: Held-out rows behind the profile.
        columns: Watched input columns, exactly `descriptors.columns(signature)`.
        sketches: One serialised `datasketches.kll_floats_sketch` (k = 200) a column.
        column_quantiles: Exact quantiles at 0, 1, ..., 100 %, (columns, 101) float32; NaN for a column without values.
        column_mean: (columns,) float64 over finite values.
        column_std: (columns,) float64, population.
        frame: Sample of at most 2,000 rows of the columns, (rows, columns) float32, for reports.
        frame_predicted: Predicted class of each row of `frame`, (rows,) int32; None where there are no classes, and in
            profiles made before 2026-11.
        score_quantiles: By score name, quantiles at `QUANTILE_LEVELS`, (1001,). RMDS and P(wrong) are out of fold.
        value_quantiles: Regression outputs, (values <= 16, 1001), or None.
        value_error: Mean absolute error on the reference, of a regression with labels, or None.
        accuracy: What accuracy is estimated with when there are no labels; None in profiles of earlier releases.
        answers: Calibration of P(wrong) for other tasks than one-of-several, or None.
    """

    rows: int
    columns: tuple[str, ...]
    sketches: tuple[bytes, ...]
    column_quantiles: Array
    column_mean: Array
    column_std: Array
    frame: Array
    score_quantiles: dict[str, Array]
    classes: ClassReference | None = None
    embedding: EmbeddingReference | None = None
    value_quantiles: Array | None = None
    value_error: float | None = None
    answers: AnswerReference | None = None
    frame_predicted: Array | None = None
    accuracy: AccuracyReference | None = None
    schema_version: int = REFERENCE_SCHEMA_VERSION

    def scores(
        self, class_output: Floats | None, embedding: Floats | None, probabilities: Floats | None = None
    ) -> dict[str, Float64s]:
        """Every score that the profile allows, by `ScoreName`, (rows,) each.

        Args:
            class_output: The output named by `classes.output`, (rows, classes).
            embedding: The output named by `embedding.output`, (rows, features).
            probabilities: `classes.probabilities(class_output)`, when it was asked for already.
        """
        out: dict[str, Float64s] = {}
        predicted = None
        if self.classes is not None and class_output is not None:
            out.update(self.classes.scores(class_output, probabilities))
            predicted = answered(class_output)
        if self.embedding is not None and embedding is not None:
            out.update(self.embedding.scores(embedding, predicted))
        if ScoreName.TRUST.value in out:  # a row without an answer has none that neighbours could agree with
            out[ScoreName.TRUST.value][np.isnan(out[ScoreName.MSP.value])] = np.nan
        if ScoreName.MSP.value in out:
            out[ScoreName.P_WRONG.value] = self.p_wrong(out)
        return out

    def p_wrong(self, scores: Mapping[str, Floats]) -> Float64s:
        """P(wrong): the fitted model, or 1 - calibrated MSP where there is none or one of its scores is missing."""
        model = self.classes.failure_model if self.classes else None
        if model is not None and all(name in scores for name in model.features):
            return model.predict(scores)
        return 1.0 - np.asarray(scores[ScoreName.MSP.value], dtype=np.float64)

    def quantile_of(self, name: ScoreName | str, value: float) -> float:
        """Share of the reference whose score is at most `value`; NaN for an unknown score."""
        grid = self.score_quantiles.get(str(name))
        if grid is None:
            return float("nan")
        return float(np.searchsorted(grid, value, side="right") / len(grid))

    def score_at(self, name: ScoreName | str, level: float) -> float | None:
        """The reference's score quantile at `level` in 0..1, or None for an unknown score."""
        grid = self.score_quantiles.get(str(name))
        return None if grid is None else float(np.interp(level, QUANTILE_LEVELS, grid))

    def save(self, folder: Path) -> tuple[str, ...]:
        """Write the profile into `folder` and return the names of its files."""
        from export.contracts import reference_file

        return reference_file.save(self, folder)

    @classmethod
    def load(cls, folder: Path) -> ReferenceProfile:
        """Read a profile.

        Raises:
            ValueError: not a profile, of an unknown schema version, or files that do not belong together.
            FileNotFoundError: there is none in `folder`.
        """
        from export.contracts import reference_file

        return reference_file.load(folder)
