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

from export.contracts.scores import (
    FailureModel,
    Float64s,
    Floats,
    ScoreName,
    flat_rows,
    random_fourier_features,
    rmds,
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
MMD_LEVELS = (0.95, 0.99, 0.999)
Array: TypeAlias = npt.NDArray[Any]


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

    def probabilities(self, output: Floats) -> Float64s:
        """Calibrated class probabilities of the output, (rows, classes)."""
        flat = flat_rows(output)
        return (softmax if self.role is OutputRole.LOGITS else temper)(flat, self.temperature)


@dataclass(frozen=True, kw_only=True, eq=False)
class EmbeddingReference:
    """Embeddings (length-1 rows) on the reference. See `scores.rmds` and `scores.random_fourier_features`.

    Attributes:
        factor: Precision factor of the shared within-class covariance, (features, rank); None without labels.
        centres: Class means times `factor`, (classes, rank); NaN for a class that the reference lacks.
        background_factor: The same for one Gaussian over everything, (features, rank).
        background_centre: (rank,).
        sample: Random rows, length 1, (<= 1000, features) float32.
        frequencies: Random Fourier frequencies, (features, D).
        feature_mean: Mean random Fourier features of the reference, (2·D,).
        bandwidth: Median distance between reference embeddings, which is the kernel's bandwidth.
        mmd_scaled: Quantiles at `MMD_LEVELS` of MMD² / (1/n + 1/N) between random splits of the reference.
        rows: N, rows behind `feature_mean`.
        class_features: Mean random Fourier features of each true class, (classes, 2·D) float32, NaN for a class that
            the reference lacks; None without labels, with very many classes, and in profiles made before 2026-11.
    """

    output: str
    factor: Array | None
    centres: Array | None
    background_factor: Array
    background_centre: Array
    sample: Array
    frequencies: Array
    feature_mean: Array
    bandwidth: float
    mmd_scaled: Array
    rows: int
    class_features: Array | None = None

    def rmds(self, embedding: Floats) -> Float64s | None:
        """RMDS++ of each row, or None without class means."""
        if self.factor is None or self.centres is None:
            return None
        return rmds(
            embedding,
            factor=self.factor,
            centres=self.centres,
            background_factor=self.background_factor,
            background_centre=self.background_centre,
        )

    def features(self, embedding: Floats) -> Float64s:
        """Random Fourier features (rows, 2·D); their mean over a window is what `mmd_squared` takes."""
        return random_fourier_features(embedding, self.frequencies)

    def mmd_squared(self, window_mean: Floats) -> float:
        """Squared maximum mean discrepancy (biased estimate) between a window and the reference.

        References:
            Gretton et al., "A Kernel Two-Sample Test", JMLR 2012, eq. 5, with random Fourier features.
        """
        gap = np.asarray(window_mean, dtype=np.float64) - self.feature_mean
        return float(gap @ gap)

    def mmd_threshold(self, rows: int, level: float = 0.999) -> float:
        """Value that `mmd_squared` of a healthy window of `rows` exceeds with probability 1 - level.

        Raises:
            ValueError: `level` is not one of `MMD_LEVELS`, or `rows` is not positive.
        """
        if level not in MMD_LEVELS or rows < 1:
            raise ValueError(f"level must be one of {MMD_LEVELS} and rows positive")
        return float(self.mmd_scaled[MMD_LEVELS.index(level)] * (1.0 / rows + 1.0 / self.rows))


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
    frame_predicted: Array | None = None
    schema_version: int = REFERENCE_SCHEMA_VERSION

    def scores(self, class_output: Floats | None, embedding: Floats | None) -> dict[str, Float64s]:
        """Every score that the profile allows, by `ScoreName`, (rows,) each.

        Args:
            class_output: The output named by `classes.output`, (rows, classes).
            embedding: The output named by `embedding.output`, (rows, features).
        """
        out: dict[str, Float64s] = {}
        if self.classes is not None and class_output is not None:
            out.update(softmax_scores(self.classes.probabilities(class_output)))
        if self.embedding is not None and embedding is not None:
            distance = self.embedding.rmds(embedding)
            if distance is not None:
                out[ScoreName.RMDS.value] = distance
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
