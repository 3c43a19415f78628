"""Compile a reference profile from held-out labelled rows and what the model answered for them.

The rows must not be training rows: on those a model is more certain, and its embeddings lie closer to the class means,
than on anything it will meet. For the same reason every statistic that is fitted on the rows (RMDS++, P(wrong)) has its
quantiles taken out of fold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts import descriptors
from export.contracts.datatypes import Datatype
from export.contracts.manifest import Task, TaskKind
from export.contracts.reference import (
    QUANTILE_LEVELS,
    ClassReference,
    EmbeddingReference,
    ReferenceProfile,
    answered,
)
from export.contracts.scores import (
    Float64s,
    ScoreName,
    energy,
    msp,
    pnorm,
    softmax,
    softmax_scores,
)
from export.contracts.signature import OutputRole, OutputSpec, Signature
from export.reference_accuracy import Answer, compile_accuracy
from export.reference_answers import compile_answers, value_error
from export.reference_embedding import compile_embedding, neighbours_left_out, out_of_fold_rmds, with_bank
from export.reference_failure import choose_norm, fit_failure_model

SKETCH_K = 200
FRAME_ROWS = 2000
MAX_CONFUSION_CLASSES = 256
MAX_VALUES = 16
TEMPERATURE_BOUNDS = (0.05, 20.0)
_CHUNK_ROWS = 1024
Array: TypeAlias = npt.NDArray[Any]


def compile_reference(
    signature: Signature,
    task: Task,
    inputs: Mapping[str, Array],
    outputs: Mapping[str, Array],
    labels: Sequence[Any] | Array | None,
    *,
    seed: int = 0,
    answer: Answer | None = None,
) -> ReferenceProfile:
    """Compile the profile of a model.

    Args:
        signature: Of the model; roles decide which parts there are.
        task: Its class names decide the number of classes.
        inputs: Held-out rows by input name, (rows, ...).
        outputs: What the model answered for them, by output name, (rows, ...).
        labels: A class index or name a row; for other tasks what `export.reference_answers` takes; None compiles what
            needs none.
        seed: Of the row sample, the folds, the random features and the permutations.
        answer: Runs the model on rows; with it a classifier rehearses changed inputs (`export.rehearsal`).

    Raises:
        ValueError: no rows, or labels that do not fit the rows or the classes.
    """
    rows = len(next(iter(inputs.values())))
    if rows == 0:
        raise ValueError("reference_inputs: no rows")
    if labels is not None and len(labels) != rows:
        raise ValueError(f"reference_labels: {len(labels)} labels for {rows} rows")
    rng = np.random.default_rng(seed)
    frame = _frame(signature, inputs, rows)
    predicted: Array | None = None
    finite = np.where(np.isfinite(frame), frame, np.nan).astype(np.float64)
    classes: ClassReference | None = None
    embedding: EmbeddingReference | None = None
    score_values: dict[str, Float64s] = {}

    class_spec = signature.output_with_role(OutputRole.LOGITS, OutputRole.PROBABILITIES)
    if task.kind is TaskKind.MULTI_LABEL:  # its class scores are not those of one of several classes
        class_spec = None
    embedding_spec = _flat_embedding(signature)
    targets = class_indices(labels, task) if class_spec is not None and labels is not None else None
    if class_spec is not None:
        scores = np.asarray(outputs[class_spec.name]).reshape(rows, -1)
        predicted = np.where(np.isfinite(scores), scores, -np.inf).argmax(axis=1).astype(np.int32)
    if class_spec is not None and targets is not None:
        distances: dict[str, Float64s] = {}
        if embedding_spec is not None:
            embedding, distances = _embedding(
                embedding_spec, outputs[embedding_spec.name], targets, task, answered(outputs[class_spec.name]), rng
            )
        classes, score_values = _classes(class_spec, task, outputs[class_spec.name], targets, distances, seed)
    elif embedding_spec is not None:
        embedding, _ = _embedding(embedding_spec, outputs[embedding_spec.name], None, task, None, rng)
    classless = None if class_spec is not None or embedding_spec is None else outputs[embedding_spec.name]
    answers, more = compile_answers(signature, task, outputs, labels, classless, seed)
    score_values |= more
    value_spec = signature.output_with_role(OutputRole.VALUE)
    values = None if value_spec is None else np.asarray(outputs[value_spec.name], dtype=np.float64).reshape(rows, -1)
    sampled = np.sort(rng.permutation(rows)[:FRAME_ROWS])
    profile = ReferenceProfile(
        rows=rows,
        columns=descriptors.columns(signature),
        sketches=tuple(sketch(column) for column in frame.T),
        column_quantiles=np.stack([_quantiles(c, np.linspace(0, 1, 101)) for c in finite.T]).astype(np.float32),
        column_mean=np.array([np.mean(c[np.isfinite(c)]) if np.isfinite(c).any() else np.nan for c in finite.T]),
        column_std=np.array([np.std(c[np.isfinite(c)]) if np.isfinite(c).any() else np.nan for c in finite.T]),
        frame=frame[sampled],
        score_quantiles={name: _quantiles(v, QUANTILE_LEVELS) for name, v in score_values.items()},
        classes=classes,
        embedding=embedding,
        value_quantiles=None
        if values is None
        else np.stack([_quantiles(c, QUANTILE_LEVELS) for c in values.T[:MAX_VALUES]]),
        value_error=value_error(values, labels),
        answers=answers,
        frame_predicted=None if predicted is None else predicted[sampled],
    )
    if classes is None or targets is None:
        return profile
    made = compile_accuracy(profile, inputs, outputs, score_values, targets, answer, seed=seed)
    return replace(profile, accuracy=made)


def class_indices(labels: Sequence[Any] | Array, task: Task) -> npt.NDArray[np.int64]:
    """Labels as class indices, whether they came as indices or as class names.

    Raises:
        ValueError: a label that is neither.

    Example:
        >>> from export.contracts.manifest import TaskKind
        >>> class_indices(["bee", "ant"], Task(kind=TaskKind.CLASSIFICATION, class_names=("ant", "bee"))).tolist()
        [1, 0]
    """
    count = len(task.class_names)
    if count == 0:
        raise ValueError("a classification task needs class_names")
    array = np.asarray(labels)
    if array.ndim != 1:
        raise ValueError(f"reference_labels: one label a row is expected, got shape {list(array.shape)}")
    if array.dtype.kind in "iu":
        if array.size and not 0 <= int(array.min()) <= int(array.max()) < count:
            raise ValueError(f"reference_labels: class indices must lie in 0..{count - 1}")
        return array.astype(np.int64)
    index = {name: i for i, name in enumerate(task.class_names)}
    try:
        return np.array([index[str(label)] for label in array], dtype=np.int64)
    except KeyError as error:
        raise ValueError(f"reference_labels: {error} is not one of the class names") from None


def sketch(values: Array) -> bytes:
    """A serialised KLL sketch (k = 200, rank error about 1.33 %) of the values that are not NaN.

    References:
        Karnin, Lang & Liberty, "Optimal Quantile Approximation in Streams", FOCS 2016.
    """
    from datasketches import kll_floats_sketch

    made = kll_floats_sketch(SKETCH_K)
    made.update(np.ascontiguousarray(values[~np.isnan(values)], dtype=np.float32))
    return bytes(made.serialize())


def fit_temperature(logits: Array, targets: npt.NDArray[np.int64]) -> tuple[float, float, float]:
    """Temperature with the smallest negative log-likelihood, and the NLL with and without it (nats a row).

    Targets are smoothed by 1 / (rows + 2) (Platt 1999), so that a model without errors is not made infinitely sure.

    References:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2.
    """
    from scipy.optimize import minimize_scalar

    z = np.asarray(logits, dtype=np.float64)
    keep = np.isfinite(z).all(axis=1)
    z, y = z[keep], targets[keep]
    if not len(z):
        return 1.0, float("nan"), float("nan")
    smooth = np.full(z.shape, 1.0 / (len(z) + 2) / z.shape[1])
    smooth[np.arange(len(z)), y] += 1.0 - 1.0 / (len(z) + 2)

    def nll(log_temperature: float, weights: Array) -> float:
        log_p = np.log(np.maximum(softmax(z, float(np.exp(log_temperature))), 1e-300))
        return float(-(weights * log_p).sum(axis=1).mean())

    low, high = np.log(TEMPERATURE_BOUNDS)
    best = minimize_scalar(nll, bounds=(low, high), method="bounded", args=(smooth,), options={"xatol": 1e-4})
    hard = np.zeros(z.shape)
    hard[np.arange(len(z)), y] = 1.0
    return float(np.exp(best.x)), nll(float(best.x), hard), nll(0.0, hard)


def _frame(signature: Signature, inputs: Mapping[str, Array], rows: int) -> npt.NDArray[np.float32]:
    if not signature.batched:
        raise ValueError("a reference profile needs a batched signature")
    steps = range(0, rows, _CHUNK_ROWS)
    return np.concatenate(
        [descriptors.frame(signature, {k: v[i : i + _CHUNK_ROWS] for k, v in inputs.items()}) for i in steps]
    )


def _embedding(
    spec: OutputSpec,
    rows: Array,
    targets: npt.NDArray[np.int64] | None,
    task: Task,
    predicted: npt.NDArray[np.int64] | None,
    rng: np.random.Generator,
) -> tuple[EmbeddingReference | None, dict[str, Float64s]]:
    """The embedding's part, and its scores of the reference's own rows: each as if the row had not been there."""
    count = len(task.class_names)
    made = compile_embedding(spec.name, rows, targets, count, rng)
    if made is None:
        return None, {}
    made, chosen = with_bank(made, rows, targets, rng)
    if targets is None or predicted is None:
        return made, {}
    scores = {ScoreName.RMDS.value: out_of_fold_rmds(rows, targets, count, rng)}
    return made, scores | neighbours_left_out(made, rows, predicted, chosen)


def _classes(
    spec: OutputSpec,
    task: Task,
    output: Array,
    targets: npt.NDArray[np.int64],
    distances: dict[str, Float64s],
    seed: int,
) -> tuple[ClassReference, dict[str, Float64s]]:
    count = len(task.class_names)
    raw = np.asarray(output, dtype=np.float64).reshape(len(output), -1)
    if raw.shape[1] != count:
        raise ValueError(f"output '{spec.name}' has {raw.shape[1]} classes, the task names {count}")
    logits = raw if spec.role is OutputRole.LOGITS else np.log(np.maximum(raw, np.finfo(np.float32).tiny))
    temperature, nll, nll_before = fit_temperature(logits, targets)
    predicted = raw.argmax(axis=1)
    wrong = predicted != targets
    p = softmax(logits, temperature)
    norm = choose_norm(raw, wrong, msp(p)) if spec.role is OutputRole.LOGITS else None
    values = softmax_scores(p)
    if norm is not None:
        values[ScoreName.PNORM.value] = pnorm(raw, norm)
    if spec.role is OutputRole.LOGITS:
        values[ScoreName.ENERGY.value] = energy(raw)
    values |= distances
    kept = np.sort(np.random.default_rng(seed).permutation(len(raw))[:FRAME_ROWS])
    score_names = tuple(values)
    score_rows = np.stack([values[name][kept] for name in score_names], axis=1).astype(np.float32)
    model, p_wrong = fit_failure_model(values, wrong, seed)
    values[ScoreName.P_WRONG.value] = p_wrong
    confusion = np.zeros((count, count), dtype=np.int64)
    np.add.at(confusion, (targets, predicted), 1)
    reference = ClassReference(
        output=spec.name,
        role=spec.role,
        class_names=task.class_names,
        temperature=temperature,
        label_counts=np.bincount(targets, minlength=count),
        predicted_counts=np.bincount(predicted, minlength=count),
        confusion=confusion if count <= MAX_CONFUSION_CLASSES else None,
        accuracy=float((predicted == targets).mean()),
        nll=nll,
        nll_before=nll_before,
        failure_model=model,
        pnorm=norm,
        score_names=score_names,
        score_rows=score_rows,
        score_wrong=wrong[kept],
    )
    return reference, values


def _flat_embedding(signature: Signature) -> OutputSpec | None:
    spec = signature.output_with_role(OutputRole.EMBEDDING)
    fixed = spec is not None and all(n > 0 for n in spec.shape[1:]) and spec.datatype.is_float
    return spec if fixed and spec is not None and spec.datatype is not Datatype.BF16 else None


def _quantiles(values: Array, levels: Array) -> Float64s:
    kept = np.asarray(values, dtype=np.float64)
    kept = kept[np.isfinite(kept)]
    return np.asarray(np.quantile(kept, levels) if len(kept) else np.full(len(levels), np.nan), dtype=np.float64)
