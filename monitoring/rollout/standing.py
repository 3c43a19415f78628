"""What a roll-out has counted: a plain record that grows by one `Block` a look (`readings` says what it means).

Everything that a decision needs is in it and is stored with the step in one transaction, so a restarted monitor goes on
exactly where the one before it stopped. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from monitoring.rollout import betting
from monitoring.rollout.policy import Metric, RolloutPolicy, StepKind

PAIRED = (Metric.ERRORS, Metric.INVALID, Metric.FLAGGED, Metric.WRONG)
APART = (Metric.ERRORS, Metric.INVALID, Metric.LATENCY, Metric.FLAGGED, Metric.WRONG)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairs:
    """Requests that both versions answered: bad at the candidate only, at both or none, at the champion only."""

    more: int = 0
    same: int = 0
    less: int = 0

    def __add__(self, other: Pairs) -> Pairs:
        """Both together."""
        return Pairs(more=self.more + other.more, same=self.same + other.same, less=self.less + other.less)

    @property
    def n(self) -> int:
        """All of them."""
        return self.more + self.same + self.less


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Bad requests and all, of either version."""

    bad: int = 0
    n: int = 0
    champion_bad: int = 0
    champion_n: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class TwoSamples:
    """Counts, and the log evidence of each alternative (see `betting`)."""

    counts: Counts = field(default_factory=Counts)
    worse: tuple[float, ...] = (0.0,) * len(betting.RATES)
    safe: tuple[float, ...] = (0.0,) * len(betting.GOOD)


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """What came since the last look.

    Attributes:
        cursor: Everything up to this record is in.
        newest_ns: Time of the newest record of the model in it; 0 without one.
        answered: Requests that clients got an answer to.
        exposed: ... from the candidate.
        shadowed: Requests that the candidate ran on in the shadow.
        pairs: By metric; of WRONG all of the roll-out up to now, because labels come late.
        disagreed, compared: Pairs whose answers differ, and that can be compared.
        counts: By metric; of WRONG likewise.
        budget_us: What counts as slow, once it is known.
    """

    cursor: int
    newest_ns: int = 0
    answered: int = 0
    exposed: int = 0
    shadowed: int = 0
    pairs: Mapping[Metric, Pairs] = field(default_factory=dict)
    disagreed: int = 0
    compared: int = 0
    counts: Mapping[Metric, Counts] = field(default_factory=dict)
    budget_us: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """Where a roll-out stands.

    Attributes:
        step: Index of the step that runs; -1 before the first.
        phase: Kind of that step: what runs through several steps of one kind is evidence in all of them.
        step_ns: Wall clock when the step began.
        served_ns: Time in it, without pauses.
        looked_ns: Wall clock of the last look.
        revision: Of the plan that this roll-out wrote last, or found.
        cursor: `records.seq` up to which everything is counted.
        phase_cursor: ... when the phase began.
        newest_ns: Time of the newest record counted.
        requests: Of the candidate in this step.
        answered: The ledger: requests that clients got an answer to since the beginning.
        exposed: ... of them by the candidate, before its last step.
        after: ... and in its last step.
        pairs: Since the beginning, in the shadow.
        disagreed, compared: Likewise.
        apart: Of this phase, where the two answer different requests.
        wrong_seen: What was known of the labels of this phase at the last look.
        budget_us: What counts as slow.
    """

    step: int = -1
    phase: StepKind | None = None
    step_ns: int = 0
    served_ns: int = 0
    looked_ns: int = 0
    revision: int = 0
    cursor: int = 0
    phase_cursor: int = 0
    newest_ns: int = 0
    requests: int = 0
    answered: int = 0
    exposed: int = 0
    after: int = 0
    pairs: dict[Metric, Pairs] = field(default_factory=dict)
    disagreed: int = 0
    compared: int = 0
    apart: dict[Metric, TwoSamples] = field(default_factory=dict)
    wrong_seen: Counts = field(default_factory=Counts)
    budget_us: float | None = None

    @property
    def exposed_share(self) -> float:
        """Share of all requests so far that the candidate answered before its last step."""
        return self.exposed / self.answered if self.answered else 0.0

    def enter(self, step: int, kind: StepKind, revision: int, now_ns: int) -> Standing:
        """The next step begins. Evidence goes on within a phase."""
        same = kind is self.phase
        return replace(
            self,
            step=step,
            phase=kind,
            step_ns=now_ns,
            served_ns=0,
            looked_ns=now_ns,
            revision=revision,
            phase_cursor=self.phase_cursor if same else self.cursor,
            requests=0,
            apart=self.apart if same else {},
            wrong_seen=self.wrong_seen if same else Counts(),
        )

    def look(self, block: Block, policy: RolloutPolicy, now_ns: int, *, counts_time: bool) -> Standing:
        """Take in what came since the last look.

        Args:
            block: What came.
            policy: Tolerances and margins.
            now_ns: Wall clock; one that was set back adds nothing.
            counts_time: Whether the step's time runs: not while it is paused.
        """
        shadow = self.phase is StepKind.SHADOW
        pairs, apart = dict(self.pairs), dict(self.apart)
        if shadow:
            for metric, more in block.pairs.items():
                pairs[metric] = more if metric is Metric.WRONG else pairs.get(metric, Pairs()) + more
        seen = self.wrong_seen
        if not shadow and self.phase is not None:
            for metric, counts in block.counts.items():
                new = counts
                if metric is Metric.WRONG:
                    new, seen = _since(counts, seen), counts
                apart[metric] = add_counts(apart.get(metric, TwoSamples()), new, policy, metric)
        last = self.phase is StepKind.CHAMPION
        return replace(
            self,
            served_ns=self.served_ns + (max(0, now_ns - self.looked_ns) if counts_time else 0),
            looked_ns=max(now_ns, self.looked_ns),
            cursor=block.cursor,
            newest_ns=max(self.newest_ns, block.newest_ns),
            requests=self.requests + (block.shadowed if shadow else block.exposed),
            answered=self.answered + block.answered,
            exposed=self.exposed + (0 if last else block.exposed),
            after=self.after + (block.exposed if last else 0),
            pairs=pairs,
            disagreed=self.disagreed + (block.disagreed if shadow else 0),
            compared=self.compared + (block.compared if shadow else 0),
            apart=apart,
            wrong_seen=seen,
            budget_us=block.budget_us if self.budget_us is None else self.budget_us,
        )


def add_counts(known: TwoSamples, new: Counts, policy: RolloutPolicy, metric: Metric) -> TwoSamples:
    """Take in a block of both versions' requests."""
    limit, old = policy.limit(metric), known.counts
    total = Counts(
        bad=old.bad + new.bad,
        n=old.n + new.n,
        champion_bad=old.champion_bad + new.champion_bad,
        champion_n=old.champion_n + new.champion_n,
    )
    if not new.n or not new.champion_n:  # nothing to compare: counted, no evidence
        return replace(known, counts=total)
    before = (old.champion_bad + 0.5) / (old.champion_n + 1) if old.champion_n else None
    if before is None:  # the first block only says what is usual
        return replace(known, counts=total)
    block = np.array([new.bad, new.n, new.champion_bad, new.champion_n], np.float64)
    worse = np.asarray(known.worse) + betting.two_worse(block, before, limit.tolerance)
    safe = np.asarray(known.safe) + betting.two_safe(block, before, limit.margin)
    return TwoSamples(counts=total, worse=tuple(worse.tolist()), safe=tuple(safe.tolist()))


def _since(now: Counts, seen: Counts) -> Counts:
    """What is new. Labels that were taken back make no difference; they are not taken back from the evidence."""
    n, champion_n = max(0, now.n - seen.n), max(0, now.champion_n - seen.champion_n)
    return Counts(
        bad=min(n, max(0, now.bad - seen.bad)),
        n=n,
        champion_bad=min(champion_n, max(0, now.champion_bad - seen.champion_bad)),
        champion_n=champion_n,
    )
