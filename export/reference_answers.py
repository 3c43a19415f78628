"""The answers' part of a reference profile: P(wrong) of multi-label, regression and detection; novelty without classes.

What is fitted on the reference has its quantiles taken out of fold, as everywhere in the profile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.blas import one_blas_thread
from export.contracts.answers import boxes as bx
from export.contracts.answers import labels as lb
from export.contracts.answers import values as vl
from export.contracts.answers.novelty import distance
from export.contracts.answers.reference import AnswerName, AnswerReference
from export.contracts.answers.truth import box_truth
from export.contracts.scores import FailureModel, Float64s, ScoreName, normalise
from export.contracts.signature import Signature
from export.contracts.task import BoxRules, Task, TaskKind
from export.reference_embedding import fit_gaussians, leading_directions

MIN_ERRORS = 20
FOLDS = 5
Array: TypeAlias = npt.NDArray[Any]
Columns: TypeAlias = dict[str, Float64s]
CANDIDATES: tuple[tuple[str, ...], ...] = (
    (ScoreName.MSP.value,),
    (AnswerName.DOUBT.value,),
    (ScoreName.MSP.value, AnswerName.DOUBT.value),
)


def compile_answers(
    signature: Signature,
    task: Task,
    outputs: Mapping[str, Array],
    labels: Sequence[Any] | Array | None,
    embedding: Array | None,
    seed: int,
) -> tuple[AnswerReference | None, Columns]:
    """What the profile knows of the answers, and the watched quantities of the reference's rows.

    Args:
        signature: Its roles say where the answers are.
        task: Its kind says how they are read.
        outputs: Of the reference rows.
        labels: A list of labels, a value or a list of values, or a list of boxes a row; None without labels.
        embedding: Of a model without classes, or None.
        seed: Of the folds.

    Returns:
        The reference, None for kinds without one or without labels; and the columns by name, (rows,) each.

    Raises:
        ValueError: labels that do not fit.
    """
    distances = None if embedding is None else out_of_fold_distance(embedding, np.random.default_rng(seed))
    columns: Columns = {} if distances is None else {AnswerName.DISTANCE.value: distances}
    if task.kind is TaskKind.MULTI_LABEL:
        made, more = _labels(signature, task, outputs, labels, seed)
    elif task.kind is TaskKind.DETECTION:
        made, more = _boxes(signature, task, outputs, labels, seed)
    elif task.kind is TaskKind.REGRESSION:
        made, more = _values(signature, task, outputs, labels, distances)
    else:
        made, more = None, {}
    return made, columns | more


@one_blas_thread
def out_of_fold_distance(embedding: Array, rng: np.random.Generator, folds: int = 10) -> Float64s:
    """`DISTANCE` of each row under a Gaussian fitted without it, (rows,); NaN where it cannot be fitted."""
    flat = np.asarray(embedding, dtype=np.float64).reshape(len(embedding), -1)
    out = np.full(len(flat), np.nan)
    rows = np.flatnonzero(np.isfinite(flat).all(axis=1))
    if len(rows) < 2 * folds:
        return out
    h = normalise(flat[rows])
    basis = leading_directions(h, 1)
    low = h if basis is None else h @ basis
    fold = rng.permutation(len(rows)) % folds
    for k in range(folds):
        fitted = fit_gaussians(low[fold != k], None, 0)
        held = flat[rows[fold == k]]
        out[rows[fold == k]] = distance(held, fitted["background_factor"], fitted["background_centre"], basis)
    return out


def value_error(values: Array | None, labels: Sequence[Any] | Array | None) -> float | None:
    """Mean absolute error of a regression on the reference; None without values or labels."""
    if values is None or labels is None:
        return None
    target = np.asarray(labels, dtype=np.float64).reshape(len(values), -1)
    if target.shape != values.shape:
        raise ValueError(f"reference_labels: shape {list(target.shape)} for values of {list(values.shape)}")
    return float(np.abs(values - target).mean())


def _labels(
    signature: Signature, task: Task, outputs: Mapping[str, Array], labels: Any, seed: int
) -> tuple[AnswerReference | None, Columns]:
    logits = lb.read_logits(signature, outputs)
    if logits is None:
        return None, {}
    if logits.shape[1] != len(task.class_names):
        raise ValueError(f"{logits.shape[1]} labels in the output, the task names {len(task.class_names)}")
    chosen = lb.given(task, logits)
    if labels is None:
        return None, lb.label_scores(logits, chosen, 1.0)
    truth = lb.label_matrix(labels, task)
    finite = np.isfinite(logits).all(axis=1)
    temperature, _ = _platt(logits[finite].ravel(), truth[finite].ravel(), shifted=False)
    columns = lb.label_scores(logits, chosen, temperature)
    wrong = (chosen != truth).any(axis=1)
    model, columns[ScoreName.P_WRONG.value] = _failure_model(columns, wrong, seed)
    return (
        AnswerReference(
            kind=task.kind,
            rows=len(truth),
            accuracy=float(1.0 - wrong.mean()),
            temperature=temperature,
            failure_model=model,
            label_counts=truth.sum(axis=0).astype(np.int64),
            predicted_counts=chosen.sum(axis=0).astype(np.int64),
        ),
        columns,
    )


def _boxes(
    signature: Signature, task: Task, outputs: Mapping[str, Array], labels: Any, seed: int
) -> tuple[AnswerReference | None, Columns]:
    rules = task.boxes or BoxRules()
    found = bx.read_boxes(signature, rules, outputs)
    if found is None:
        return None, {}
    if labels is None:
        return None, bx.box_scores(found, found.score, rules)
    truth = [box_truth(entry, rules, task.class_names) for entry in labels]
    right = np.zeros(len(found.row), dtype=bool)
    wrong = np.zeros(found.rows, dtype=bool)
    for image, (corners, label) in enumerate(truth):
        here = found.of(image)
        # Candidates below the threshold are matched after the answers: what they find was missed.
        matched = bx.match(found.corners[here], found.label[here], corners, label, rules.iou) >= 0
        right[here] = matched
        answers = found.score[here] >= rules.min_score
        hits = int((matched & answers).sum())
        missed, spurious = len(corners) - hits, int(answers.sum()) - hits
        wrong[image] = missed > rules.missed or spurious > rules.spurious
    s = np.clip(found.score, 1e-6, 1.0 - 1e-6)
    temperature, shift = _platt(np.log(s) - np.log1p(-s), right, shifted=True)
    columns = bx.box_scores(found, bx.calibrated(found.score, temperature, shift), rules)
    model, columns[ScoreName.P_WRONG.value] = _failure_model(columns, wrong, seed)
    count = max(len(task.class_names), 1 + max((int(c.max(initial=-1)) for _, c in truth), default=-1))
    answers = found.score >= rules.min_score
    inside = answers & (found.label < count)
    return (
        AnswerReference(
            kind=task.kind,
            rows=found.rows,
            accuracy=float(1.0 - wrong.mean()),
            temperature=temperature,
            shift=shift,
            failure_model=model,
            label_counts=np.bincount(np.concatenate([c for _, c in truth]), minlength=count).astype(np.int64),
            predicted_counts=np.bincount(found.label[inside], minlength=count).astype(np.int64),
        ),
        columns,
    )


def _values(
    signature: Signature, task: Task, outputs: Mapping[str, Array], labels: Any, distances: Float64s | None
) -> tuple[AnswerReference | None, Columns]:
    read = vl.read_values(signature, task, outputs)
    if read is None:
        return None, {}
    columns: Columns = {AnswerName.VALUE.value: read.value[:, 0]}
    if labels is None:
        return None, columns
    target = np.asarray(labels, dtype=np.float64).reshape(len(read.value), -1)
    if target.shape != read.value.shape:
        raise ValueError(f"reference_labels: shape {list(target.shape)} for values of {list(read.value.shape)}")
    error = np.abs(read.value - target)  # (rows, values)
    known = np.isfinite(error).all(axis=1)
    if task.tolerance is not None:
        if len(task.tolerance) not in (1, error.shape[1]):
            raise ValueError(f"task.tolerance: {len(task.tolerance)} for {error.shape[1]} values")
        unit = np.broadcast_to(np.array(task.tolerance), (error.shape[1],)).copy()
    else:
        unit = np.maximum(error[known].mean(axis=0) if known.any() else np.ones(error.shape[1]), 1e-12)
    largest = (error / unit).max(axis=1)
    scattered = vl.scatter(read, unit, distances)
    usable = known & np.isfinite(scattered)
    if usable.sum() < 2:
        return None, columns
    scale = _expected(scattered[usable], largest[usable])
    expected = scale[0] + scale[1] * scattered
    reference = AnswerReference(
        kind=task.kind,
        rows=int(usable.sum()),
        accuracy=float((largest[usable] <= 1.0).mean()) if task.tolerance is not None else None,
        tolerance_given=task.tolerance is not None,
        unit=unit,
        scale=scale,
        ratios=np.quantile(largest[usable] / expected[usable], vl.LEVELS),
    )
    columns[AnswerName.SPREAD.value] = expected
    if reference.tolerance_given:  # without a declared tolerance P(wrong) follows a setting of the monitor
        columns[ScoreName.P_WRONG.value] = vl.p_wrong(reference, expected, 1.0)
    return reference, columns


def _expected(scattered: Float64s, error: Float64s) -> Float64s:
    """Non-negative intercept and slope of the error over its scatter, (2,): least squares (Lawson & Hanson 1974)."""
    from scipy.optimize import nnls

    design = np.stack([np.ones(len(scattered)), scattered], axis=1)
    coefficients, _ = nnls(design, error)
    if coefficients[0] + coefficients[1] * scattered.min() <= 0:
        coefficients[0] = max(float(error.mean()) * 1e-3, 1e-12)
    return np.asarray(coefficients, dtype=np.float64)


def _platt(logits: Array, right: Array, *, shifted: bool) -> tuple[float, float]:
    """Temperature and shift with the smallest negative log-likelihood, on smoothed targets; 1 and 0 without both kinds.

    References:
        Platt, "Probabilistic Outputs for Support Vector Machines", 1999, section 2.2.
    """
    from scipy.optimize import minimize

    positive, negative = int(right.sum()), int((~right).sum())
    if min(positive, negative) < MIN_ERRORS:
        return 1.0, 0.0
    target = np.where(right, (positive + 1) / (positive + 2), 1 / (negative + 2))

    def loss(x: Array) -> float:
        z = logits / np.exp(x[0]) + (x[1] if shifted else 0.0)
        return float(np.mean(np.logaddexp(0.0, z) - target * z))

    best = minimize(loss, np.zeros(2), method="L-BFGS-B", bounds=[(-3.0, 3.0), (-20.0, 20.0) if shifted else (0, 0)])
    return float(np.exp(best.x[0])), float(best.x[1]) if shifted else 0.0


@one_blas_thread
def _failure_model(columns: Columns, wrong: Array, seed: int) -> tuple[FailureModel | None, Float64s]:
    """P(wrong) over the scores, as the best ranking candidate by cross-validation; None with too few errors.

    None that ranks worse than the uncalibrated P(wrong) is taken; where no other is as good, that one is calibrated,
    which keeps its order.
    """
    from export.contracts.scores.ranking import augrc

    plain = columns[ScoreName.P_WRONG.value]
    usable = np.isfinite(plain)
    y = wrong[usable]
    if min(int(y.sum()), int((~y).sum())) < MIN_ERRORS:
        return None, plain
    best_area = augrc(plain[usable], y) + 1e-12
    best: tuple[str, ...] = (ScoreName.P_WRONG.value,)
    out = plain.copy()
    out[usable] = _out_of_fold(columns, best, usable, y, seed)
    for names in CANDIDATES:
        predicted = _out_of_fold(columns, names, usable, y, seed)
        area = augrc(predicted, y)
        if area <= best_area:
            best_area, best, out[usable] = area, names, predicted
    return _logistic(np.stack([columns[name][usable] for name in best], axis=1), y, best), out


def _out_of_fold(columns: Columns, names: tuple[str, ...], usable: Array, wrong: Array, seed: int) -> Float64s:
    from sklearn.model_selection import StratifiedKFold

    x = np.stack([columns[name][usable] for name in names], axis=1)
    predicted = np.empty(len(x))
    for inside, outside in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(x, wrong):
        fitted = _logistic(x[inside], wrong[inside], names)
        predicted[outside] = fitted.predict({n: x[outside, i] for i, n in enumerate(names)})
    return predicted


def _logistic(x: Array, wrong: Array, names: tuple[str, ...]) -> FailureModel:
    from sklearn.linear_model import LogisticRegression

    mean, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-9)
    fitted = LogisticRegression(C=1.0, max_iter=1000).fit((x - mean) / scale, wrong)
    return FailureModel(
        features=names,
        mean=tuple(float(v) for v in mean),
        scale=tuple(float(v) for v in scale),
        weights=tuple(float(v) for v in fitted.coef_[0]),
        intercept=float(fitted.intercept_[0]),
    )
