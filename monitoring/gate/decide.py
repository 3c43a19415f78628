"""The gate's decision: a pure function of both versions' answers and the policy.

A candidate passes when it is better on the audited sets, not worse on every other set, seen to be worse on no slice,
and within the budgets. "Better" alone bounds the chance of a wrong promotion by `alpha`; everything else can only stop.
A check that the labels cannot decide says so, and how many would do: a gate that guesses passes half of all equals.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from monitoring.gate import paired
from monitoring.gate.contracts import (
    Check,
    CheckKind,
    EvaluatedSet,
    Flip,
    GatePolicy,
    GateVerdict,
    Goodness,
    Measured,
    Outcome,
    SetKind,
)
from monitoring.gate.paired import Paired

LEVEL = 0.95
USUAL_CHANGE = 0.05  # assumed share of changed answers where no input tells


def decide(
    sets: Sequence[EvaluatedSet],
    measured: Sequence[Measured],
    policy: GatePolicy,
    contract: Sequence[Check] = (),
) -> GateVerdict:
    """Judge a candidate.

    Args:
        sets: At least one of kind AUDITED, or nothing can pass; one of any kind where the policy asks no "better".
        measured: Costs that have a budget.
        policy: What is promised.
        contract: What was found of the candidate besides its answers' goodness; a failed one stops it.
    """
    audited = [x for x in sets if x.kind is SetKind.AUDITED and policy.ask_better]
    others = [x for x in sets if x.kind is not SetKind.AUDITED or not policy.ask_better]
    checks = [*contract, *(_better(x, policy) for x in audited)]
    checks += [_not_worse(x, policy) for x in others]
    checks += _slices(sets, policy)
    checks += [_budget(x) for x in measured]
    asked = bool(audited) if policy.ask_better else bool(others)
    outcome = _together(checks)
    if outcome is Outcome.PASSED and not asked:
        outcome = Outcome.UNDECIDED
    return GateVerdict(
        outcome=outcome,
        checks=tuple(checks),
        negative_flips=_flips(sets, -1),
        positive_flips=_flips(sets, 1),
        policy=policy,
        words=_summary(outcome, checks, asked=asked),
    )


def _better(x: EvaluatedSet, policy: GatePolicy) -> Check:
    counts, alpha = _counts(x.champion, x.candidate), policy.alpha
    p = _p_better(x, counts)
    sees, needed = _power(x, counts, policy), None
    points = f"{100 * policy.effect:g} points"
    if p <= alpha:
        outcome, words = Outcome.PASSED, f"better by {_points(x)}: {counts.gains} gained, {counts.losses} lost"
    elif paired.worse_p(counts) <= alpha:
        outcome, words = Outcome.FAILED, f"worse by {_points(x)}: {counts.gains} gained, {counts.losses} lost"
    elif sees >= policy.power:
        outcome, words = Outcome.FAILED, f"not better: a gain of {points} would be seen with {sees:.0%}, and was not"
    else:
        outcome = Outcome.UNDECIDED
        needed = _needed(x, counts, policy)
        enough_words = f"about {needed:,} labels would" if needed else "no number of labels would"
        words = (
            f"{counts.n:,} labels see a gain of {points} with {sees:.0%} only; {enough_words} with {policy.power:.0%}"
        )
    return _check(CheckKind.BETTER, x, counts, outcome, words, p, alpha, power=sees, needed=needed)


def _changed(counts: Paired) -> float:
    return counts.changed if counts.gains + counts.losses else USUAL_CHANGE


def _deviation(x: EvaluatedSet) -> float:
    return float((x.candidate - x.champion).std(ddof=1)) if len(x.ids) > 1 else 1.0


def _power(x: EvaluatedSet, counts: Paired, policy: GatePolicy) -> float:
    """The chance to see the policy's effect with the labels there are."""
    if x.binary:
        return paired.power(counts.n, _changed(counts), policy.effect, policy.alpha)
    return paired.mean_power(counts.n, _deviation(x), policy.effect, policy.alpha)


def _needed(x: EvaluatedSet, counts: Paired, policy: GatePolicy) -> int | None:
    """How many labels would be enough."""
    if x.binary:
        return paired.labels_needed(_changed(counts), policy.effect, policy.alpha, policy.power)
    return paired.mean_labels_needed(_deviation(x), policy.effect, policy.alpha, policy.power)


def _not_worse(x: EvaluatedSet, policy: GatePolicy) -> Check:
    counts, alpha = _counts(x.champion, x.candidate), policy.margin_alpha / policy.uses
    margin = f"{100 * policy.margin:g} points"
    p = _p_inferior(x, counts, policy.margin)
    told = f"{counts.gains} gained, {counts.losses} lost of {counts.n:,}"
    if x.used >= policy.uses:
        outcome, words = Outcome.UNDECIDED, f"looked at {x.used} times before: it needs new inputs to prove anything"
    elif p <= alpha:
        outcome, words = Outcome.PASSED, f"not worse by {margin} or more: {told}"
    elif paired.worse_p(counts) <= alpha:
        outcome, words = Outcome.FAILED, f"worse by {_points(x)}: {told}"
    elif paired.inferior_p(Paired(n=counts.n, gains=0, losses=0), policy.margin) > alpha:
        # Too small to prove a margin even without a single change: it is read like a list of examples.
        kept = counts.losses <= counts.gains
        outcome = Outcome.PASSED if kept else Outcome.FAILED
        words = f"{told}; too small to prove a margin of {margin}, so it must not lose more than it gains"
    elif counts.losses - counts.gains >= policy.margin * counts.n:
        outcome, words = Outcome.FAILED, f"worse by {_points(x)}, which is {margin} or more: {told}"
    else:
        outcome, words = Outcome.UNDECIDED, f"cannot tell whether it is worse by {margin}: {told}"
    return _check(CheckKind.NOT_WORSE, x, counts, outcome, words, p, alpha)


def _slices(sets: Sequence[EvaluatedSet], policy: GatePolicy) -> list[Check]:
    """Each slice that is large enough, against "not worse", with Holm's correction over all of them."""
    found = [
        (x, name, _counts(x.champion[mask], x.candidate[mask]), x.champion[mask], x.candidate[mask])
        for x in sets
        for name, mask in sorted(x.slices.items())
        if np.count_nonzero(mask) >= policy.smallest_slice
    ]
    raw = [_p_worse(old, new, counts) for _, _, counts, old, new in found]
    checks = []
    for (x, name, counts, old, new), p in zip(found, paired.holm(raw), strict=True):
        failed = p <= policy.slice_alpha
        words = f"{counts.gains} gained, {counts.losses} lost of {counts.n:,}"
        checks.append(
            Check(
                kind=CheckKind.SLICE,
                subject=f"{x.name}: {name}",
                outcome=Outcome.FAILED if failed else Outcome.PASSED,
                n=counts.n,
                champion=float(old.mean()),
                candidate=float(new.mean()),
                words=f"worse here: {words}" if failed else f"not seen to be worse: {words}",
                gains=counts.gains,
                losses=counts.losses,
                low=_ends(old, new, counts)[0],
                high=_ends(old, new, counts)[1],
                p_value=p,
                alpha=policy.slice_alpha,
            )
        )
    return checks


def _budget(x: Measured) -> Check:
    ratio = x.candidate / x.champion if x.champion > 0 else (1.0 if x.candidate <= 0 else float("inf"))
    within = ratio <= x.limit or x.candidate - x.champion <= x.allowance
    return Check(
        kind=CheckKind.BUDGET,
        subject=x.name,
        outcome=Outcome.PASSED if within else Outcome.FAILED,
        n=0,
        champion=x.champion,
        candidate=x.candidate,
        words=f"{x.candidate:.4g} against {x.champion:.4g}: {ratio:.2f} times, {x.limit:g} are allowed"
        + (f", or {x.allowance:g} more" if x.allowance else ""),
    )


def _check(
    kind: CheckKind,
    x: EvaluatedSet,
    counts: Paired,
    outcome: Outcome,
    words: str,
    p: float,
    alpha: float,
    *,
    power: float | None = None,
    needed: int | None = None,
) -> Check:
    low, high = _ends(x.champion, x.candidate, counts)
    return Check(
        kind=kind,
        subject=x.name,
        outcome=outcome,
        n=counts.n,
        champion=float(x.champion.mean()) if counts.n else float("nan"),
        candidate=float(x.candidate.mean()) if counts.n else float("nan"),
        words=words,
        gains=counts.gains,
        losses=counts.losses,
        low=low,
        high=high,
        p_value=p,
        alpha=alpha,
        power=power,
        needed=needed,
    )


def _counts(champion: Goodness, candidate: Goodness) -> Paired:
    better, worse = np.count_nonzero(candidate > champion), np.count_nonzero(candidate < champion)
    return Paired(n=len(champion), gains=int(better), losses=int(worse))


def _is_binary(*goodness: Goodness) -> bool:
    return all(bool(np.all((g == 0) | (g == 1))) for g in goodness)


def _p_better(x: EvaluatedSet, counts: Paired) -> float:
    if x.binary:
        return paired.better_p(counts)
    return paired.mean_worse_p(1 - x.champion, 1 - x.candidate, 0.0)


def _p_worse(champion: Goodness, candidate: Goodness, counts: Paired) -> float:
    if _is_binary(champion, candidate):
        return paired.worse_p(counts)
    return paired.mean_worse_p(1 - candidate, 1 - champion, 0.0)


def _p_inferior(x: EvaluatedSet, counts: Paired, margin: float) -> float:
    if x.binary:
        return paired.inferior_p(counts, margin)
    return paired.mean_worse_p(1 - x.champion, 1 - x.candidate, margin)


def _ends(champion: Goodness, candidate: Goodness, counts: Paired) -> tuple[float | None, float | None]:
    """Interval of the difference of the means."""
    if counts.n == 0:
        return None, None
    if _is_binary(champion, candidate):
        return paired.interval(counts, LEVEL)
    return paired.mean_interval(candidate - champion, LEVEL)


def _points(x: EvaluatedSet) -> str:
    return f"{100 * abs(float(x.candidate.mean() - x.champion.mean())):.2g} points"


def _flips(sets: Sequence[EvaluatedSet], sign: int) -> tuple[Flip, ...]:
    found = []
    for x in sets:
        change = sign * (x.candidate - x.champion)
        for i in np.flatnonzero(change > 0).tolist():
            inside = tuple(name for name, mask in sorted(x.slices.items()) if mask[i])
            flip = Flip(
                set=x.name, id=x.ids[i], champion=float(x.champion[i]), candidate=float(x.candidate[i]), slices=inside
            )
            found.append((-float(change[i]), x.name, i, flip))
    return tuple(flip for *_, flip in sorted(found, key=lambda item: item[:3]))


def _together(checks: Sequence[Check]) -> Outcome:
    outcomes = {check.outcome for check in checks}
    for worst in (Outcome.FAILED, Outcome.UNDECIDED):
        if worst in outcomes:
            return worst
    return Outcome.PASSED


def _summary(outcome: Outcome, checks: Sequence[Check], *, asked: bool) -> str:
    if not asked and outcome is Outcome.UNDECIDED:
        return "undecided: there is no audited set, and on the others a candidate can only lose"
    stopping = [f"{c.subject}: {c.words}" for c in checks if c.outcome is outcome]
    if outcome is Outcome.PASSED:
        asked_first = (CheckKind.BETTER, CheckKind.NOT_WORSE)
        return "passed: " + next(c.words for kind in asked_first for c in checks if c.kind is kind)
    return f"{outcome}: " + "; ".join(stopping[:3]) + ("" if len(stopping) <= 3 else f"; and {len(stopping) - 3} more")
