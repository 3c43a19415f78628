"""How reviewing goes, as metrics. What was decided is counted by the process that did it; what waits is asked for."""

from __future__ import annotations

import time

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.metric_family import Family, Made, make
from monitoring.review.counts import Counts
from monitoring.review.machine import WAITING
from monitoring.review.trail import agreement_of
from monitoring.store import Store

DECISIONS = Family(
    name="hardcase_review_decisions",
    kind="counter",
    text="Cases decided on through this process since it started, by verdict and kind of act.",
    labels=("verdict", "kind"),
)
CONFLICTS = Family(
    name="hardcase_review_conflicts",
    kind="counter",
    text="Decisions refused because the case had changed, or somebody else had it.",
)
UNDONE = Family(name="hardcase_review_undone_cases", kind="counter", text="Cases whose last change was taken back.")
LEASES = Family(name="hardcase_review_leases", kind="counter", text="Cases that reviewers took.")
WAITING_CASES = Family(
    name="hardcase_review_waiting_cases", kind="gauge", text="Cases that wait for a reviewer.", labels=("model",)
)
LEASED = Family(name="hardcase_review_leased_cases", kind="gauge", text="Cases that reviewers have now.")
AGREEMENT = Family(
    name="hardcase_review_agreement_ratio",
    kind="gauge",
    text="Share of pairs of opinions on one case that say the same; absent while no case has two.",
)
KAPPA = Family(
    name="hardcase_review_agreement_kappa",
    kind="gauge",
    text="Cohen's kappa over the same pairs: 1 is complete agreement, 0 what chance would give.",
)
REVIEW_FAMILIES = (DECISIONS, CONFLICTS, UNDONE, LEASES, WAITING_CASES, LEASED, AGREEMENT, KAPPA)


def review_metrics(store: Store, counts: Counts | None) -> tuple[Made, ...]:
    """All of them, now."""
    made = {family.name: make(family) for family in REVIEW_FAMILIES}
    if counts is not None:
        for (verdict, kind), n in sorted(counts.decisions.items()):
            made[DECISIONS.name].add_metric([verdict, kind], n)
        for family, value in ((CONFLICTS, counts.conflicts), (UNDONE, counts.undone), (LEASES, counts.leases)):
            made[family.name].add_metric([], value)
    c = t.cases.c
    waits = sa.select(c.model, sa.func.count()).where(c.state.in_([s.value for s in WAITING])).group_by(c.model)
    held = sa.select(sa.func.count()).where(c.lease_by != sa.literal_column("''"), c.lease_until_ns > time.time_ns())
    with store.read() as connection:
        for model, n in connection.execute(waits.order_by(c.model)).all():
            made[WAITING_CASES.name].add_metric([model], n)
        made[LEASED.name].add_metric([], connection.scalar(held) or 0)
    agreed = agreement_of(store)
    for family, share in ((AGREEMENT, agreed.share), (KAPPA, agreed.kappa)):
        if share is not None:
            made[family.name].add_metric([], share)
    return tuple(made.values())
