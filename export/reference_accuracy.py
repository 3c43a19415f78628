"""Compile what accuracy is estimated with without labels: thresholds, and windows rehearsed on changed inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from export.contracts import accuracy as a
from export.contracts.reference import ReferenceProfile
from export.contracts.scores import Float64s, ScoreName, entropy, msp
from export.rehearsal import rehearse

MIN_ROWS = 100  # held-out rows below which nothing is rehearsed: their own accuracy is not known well enough
MAX_ROWS = 300  # rows that are changed and answered again
WINDOW_ROWS = 200
DOSES = (1.0, 1.0, 0.66, 0.33)  # share of a rehearsed window's rows that are changed; the rest is as it was
CLEAN_WINDOWS = 16
CLASS_WINDOWS = 16  # of other class shares
MAX_BYTES = 16 << 20  # of these rows, as long as they are not fewer than `MIN_ROWS`
Array: TypeAlias = npt.NDArray[Any]
Answer: TypeAlias = Callable[[Mapping[str, Array]], Mapping[str, Array]]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Answers:
    """What the model said of some rows: scores by name, P(wrong), calibrated probabilities, random features, truth."""

    scores: Mapping[str, Float64s]
    p_wrong: Float64s
    probabilities: Float64s
    features: Float64s
    right: npt.NDArray[np.bool_]

    def pick(self, rows: Array) -> _Answers:
        scores = {name: values[rows] for name, values in self.scores.items()}
        return _Answers(scores=scores, **{name: getattr(self, name)[rows] for name in _PARTS})

    def join(self, other: _Answers) -> _Answers:
        scores = {name: np.concatenate([values, other.scores[name]]) for name, values in self.scores.items()}
        parts = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in _PARTS}
        return _Answers(scores=scores, **parts)


_PARTS = ("p_wrong", "probabilities", "features", "right")


def compile_accuracy(
    profile: ReferenceProfile,
    inputs: Mapping[str, Array],
    outputs: Mapping[str, Array],
    scores: Mapping[str, Float64s],
    targets: npt.NDArray[np.int64],
    answer: Answer | None,
    *,
    seed: int,
) -> a.AccuracyReference:
    """Compile the part of a classifier's profile that estimates its accuracy.

    Args:
        profile: Complete but for this part.
        inputs: Held-out rows by input name, (rows, ...).
        outputs: What the model answered for them.
        scores: Scores of these rows, (rows,) each; those that were fitted on the rows out of fold.
        targets: True class indices, (rows,).
        answer: Runs the model on changed rows; None rehearses nothing.
        seed: Of rows, changes and windows.
    """
    classes = profile.classes
    assert classes is not None
    output, probabilities = outputs[classes.output], classes.probabilities(outputs[classes.output])
    right = np.asarray(output).reshape(len(targets), -1).argmax(axis=1) == targets
    wrong_share = 1.0 - float(right.mean())
    names = tuple(n for n in profile.score_quantiles if n != ScoreName.P_WRONG.value)
    empty = a.AccuracyReference(
        scores=names,
        atc=(
            float(np.quantile(msp(probabilities), wrong_share)),
            float(np.quantile(entropy(probabilities), 1.0 - wrong_share)),
        ),
        atc_score=a.ATC_SCORES[0],
        prior=np.bincount(targets, minlength=probabilities.shape[1]) / len(targets),
        kinds=(),
        features=np.zeros((0, 0)),
        accuracy=np.zeros(0),
        errors=np.zeros((0, len(a.ESTIMATES))),
        reach=0.0,
    )
    if answer is None or len(targets) < MIN_ROWS:
        return empty
    rng = np.random.default_rng([seed, 20])
    size = max(sum(array.nbytes // len(array) for array in inputs.values()), 1)
    # Fewer rows where they are large: the model answers each of them 120 times.
    rows = np.sort(rng.permutation(len(targets))[: min(MAX_ROWS, max(MAX_BYTES // size, MIN_ROWS))])
    clean = replace(
        _answers(profile, names, outputs, targets),
        scores={name: np.asarray(scores[name]) for name in names},
        p_wrong=np.asarray(scores[ScoreName.P_WRONG.value]),
    )
    windows = _clean_windows(clean, targets, rng)
    subset = {name: np.ascontiguousarray(array[rows]) for name, array in inputs.items()}
    for kind, changed in rehearse(subset, seed):
        made = _answers(profile, names, answer(changed), targets[rows])
        answered = np.flatnonzero(np.isfinite(made.probabilities).all(axis=1) & np.isfinite(made.features).all(axis=1))
        if len(answered) < MIN_ROWS:
            continue  # a model that answers NaN there says so itself: there is nothing to estimate
        made = made.pick(answered)
        for dose in DOSES:
            count = round(WINDOW_ROWS * dose)
            part = made.pick(rng.integers(0, len(answered), count))
            rest = clean.pick(rng.integers(0, len(targets), WINDOW_ROWS - count))
            windows.append((f"{kind} {dose:.0%}", part.join(rest)))
    if all(kind in ("none", "classes") for kind, _ in windows):
        return empty  # inputs that cannot be changed: unchanged rows alone would make every estimate look good
    return _learn(profile, empty, windows)


def _answers(
    profile: ReferenceProfile, names: tuple[str, ...], outputs: Mapping[str, Array], targets: npt.NDArray[np.int64]
) -> _Answers:
    classes, embedding = profile.classes, profile.embedding
    assert classes is not None
    found = profile.scores(outputs[classes.output], None if embedding is None else outputs[embedding.output])
    unknown = np.full(len(targets), np.nan)
    return _Answers(
        scores={name: found.get(name, unknown) for name in names},
        p_wrong=found[ScoreName.P_WRONG.value],
        probabilities=classes.probabilities(outputs[classes.output]),
        features=np.zeros((len(targets), 0)) if embedding is None else embedding.features(outputs[embedding.output]),
        right=np.asarray(outputs[classes.output]).reshape(len(targets), -1).argmax(axis=1) == targets,
    )


def _clean_windows(
    clean: _Answers, targets: npt.NDArray[np.int64], rng: np.random.Generator
) -> list[tuple[str, _Answers]]:
    """Windows of unchanged rows: as they are, and with other shares of the classes."""
    windows = [("none", clean.pick(rng.integers(0, len(targets), WINDOW_ROWS))) for _ in range(CLEAN_WINDOWS)]
    present = np.unique(targets)
    for number in range(CLASS_WINDOWS):
        share = rng.dirichlet(np.full(len(present), (3.0, 1.0)[number % 2]))
        weight = np.zeros(int(targets.max()) + 1)
        weight[present] = share / np.bincount(targets)[present]
        chance = weight[targets]
        windows.append(("classes", clean.pick(rng.choice(len(targets), WINDOW_ROWS, p=chance / chance.sum()))))
    return windows


def _learn(
    profile: ReferenceProfile, empty: a.AccuracyReference, windows: list[tuple[str, _Answers]]
) -> a.AccuracyReference:
    edges = {name: a.score_edges(profile.score_quantiles[name]) for name in empty.scores}
    sure = [a.count_sureness(empty, made.probabilities) for _, made in windows]
    seen = [
        a.describe(
            empty,
            {name: a.histogram(edges[name], made.scores[name]) for name in empty.scores},
            counts,
            None if profile.embedding is None else profile.embedding.mmd_squared(made.features.mean(axis=0)),
        )
        for (_, made), counts in zip(windows, sure, strict=True)
    ]
    truth = np.array([made.right.mean() for _, made in windows])
    reference = replace(
        empty, kinds=tuple(kind for kind, _ in windows), features=np.stack(seen), accuracy=truth, reach=1.0
    )
    atc = {score: _atc_errors(replace(reference, atc_score=score), sure, truth) for score in a.ATC_SCORES}
    best = min(a.ATC_SCORES, key=lambda score: float(np.abs(atc[score]).mean()))
    errors = np.full((len(windows), len(a.ESTIMATES)), np.nan)
    column = {name: i for i, name in enumerate(a.ESTIMATES)}
    errors[:, column["confidence"]] = np.array([a.mean_confidence(s) for s in sure]) - truth
    errors[:, column["p_wrong"]] = np.array([1.0 - float(np.nanmean(made.p_wrong)) for _, made in windows]) - truth
    errors[:, column["atc"]] = atc[best]
    if a.cells_of(reference.classes):
        errors[:, column["transport"]] = a.base_of(reference, reference.features) - truth
    reference = replace(reference, atc_score=best, errors=errors)
    # What the windows of a kind say when that kind was never rehearsed: healthy ones stand for themselves.
    apart = [a.read(reference, f, None if k == "none" else a.family(k)) for k, f in _pairs(reference)]
    away = np.array([r.distance for r in apart if r is not None])
    errors[:, column["rehearsal"]] = np.array([np.nan if r is None else r.accuracy for r in apart]) - truth
    return replace(reference, errors=errors, reach=float(np.quantile(away, 0.99)))


def _pairs(reference: a.AccuracyReference) -> list[tuple[str, Array]]:
    return list(zip(reference.kinds, reference.features, strict=True))


def _atc_errors(reference: a.AccuracyReference, sure: list[a.Ints], truth: Array) -> Array:
    return np.array([a.above_threshold(reference, counts) for counts in sure]) - truth
