"""What the counts of a roll-out say about each metric: rates, and the evidence for and against. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from monitoring.rollout import betting
from monitoring.rollout.policy import Metric, RolloutPolicy, StepKind
from monitoring.rollout.standing import APART, PAIRED, Pairs, Standing, TwoSamples


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """What is known of one metric in the running phase.

    Attributes:
        n: Requests of the candidate, or pairs.
        rate: Share of bad ones of the candidate; None without requests. In pairs: of all pairs.
        reference: Of the champion; of DISAGREEMENT what is expected.
        worse: Evidence that the candidate is worse than tolerated, as a share of what rolls it back: 1 does.
        safe: Evidence that it is not worse by the margin, as a share of what proves it: 1 does.
    """

    metric: Metric
    n: int
    rate: float | None
    reference: float | None
    tolerance: float
    margin: float
    worse: float
    safe: float

    @property
    def against(self) -> bool:
        """Whether the evidence against the candidate is enough."""
        return self.worse >= 1

    @property
    def proved(self) -> bool:
        """Whether it is shown to be not worse by the margin."""
        return self.safe >= 1


def tests_of(policy: RolloutPolicy) -> int:
    """How many tests share the promised chance of a false roll-back: each metric in each phase."""
    phases = {step.kind for step in policy.steps}
    paired = len(PAIRED) + (policy.disagreement is not None)
    return sum(paired if phase is StepKind.SHADOW else len(APART) for phase in phases)


def readings(standing: Standing, policy: RolloutPolicy) -> tuple[Reading, ...]:
    """What the evidence says now, metric by metric; empty before the first step."""
    if standing.phase is None:
        return ()
    enough = math.log(tests_of(policy) / policy.alpha)
    proof = math.log(1 / policy.beta)
    if standing.phase is not StepKind.SHADOW:
        return tuple(_apart(metric, standing, policy, enough, proof) for metric in APART)
    found = [_paired(metric, standing, policy, enough, proof) for metric in PAIRED]
    return (*found, _disagreement(standing, policy, enough, proof))


def _paired(metric: Metric, standing: Standing, policy: RolloutPolicy, enough: float, proof: float) -> Reading:
    limit, pairs = policy.limit(metric), standing.pairs.get(metric, Pairs())
    worse = float(betting.paired_worse(pairs.more, pairs.same, pairs.less, limit.tolerance))
    safe = float(betting.paired_safe(pairs.more, pairs.same, pairs.less, limit.margin))
    return Reading(
        metric=metric,
        n=pairs.n,
        rate=pairs.more / pairs.n if pairs.n else None,  # where only the candidate is bad
        reference=pairs.less / pairs.n if pairs.n else None,  # where only the champion is
        tolerance=limit.tolerance,
        margin=limit.margin,
        worse=_share(worse, enough),
        safe=_share(safe, proof),
    )


def _disagreement(standing: Standing, policy: RolloutPolicy, enough: float, proof: float) -> Reading:
    limit, expected = policy.limit(Metric.DISAGREEMENT), policy.disagreement
    bad, n = standing.disagreed, standing.compared
    worse = safe = 0.0
    if expected is None:
        safe = proof  # nothing is expected, so nothing is to be proved
    else:
        worse = float(betting.rate_above(bad, n - bad, min(0.99, expected + limit.tolerance)))
        most = expected + limit.margin
        safe = proof if most >= 1 else float(betting.rate_below(bad, n - bad, most))
    return Reading(
        metric=Metric.DISAGREEMENT,
        n=n,
        rate=bad / n if n else None,
        reference=expected,
        tolerance=limit.tolerance,
        margin=limit.margin,
        worse=_share(worse, enough),
        safe=_share(safe, proof),
    )


def _apart(metric: Metric, standing: Standing, policy: RolloutPolicy, enough: float, proof: float) -> Reading:
    limit, known = policy.limit(metric), standing.apart.get(metric, TwoSamples())
    counts = known.counts
    return Reading(
        metric=metric,
        n=counts.n,
        rate=counts.bad / counts.n if counts.n else None,
        reference=counts.champion_bad / counts.champion_n if counts.champion_n else None,
        tolerance=limit.tolerance,
        margin=limit.margin,
        worse=_share(float(betting.log_mean_exp(known.worse)), enough),
        safe=_share(float(betting.log_mean_exp(known.safe)), proof),
    )


def _share(evidence: float, enough: float) -> float:
    return max(0.0, evidence / enough)
