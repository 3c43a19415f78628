"""The pools of a window: which records may enter one, and which of them stay. Functions of sets, not of arrivals.

The pool of scores spends its places on different failures. The same input (content hash) takes one place; one in
twenty goes to the highest P(wrong); every region of the embedding has a few of its own; the rest is drawn at random
with chances in proportion to the root of P(wrong) (Efraimidis & Spirakis, "Weighted random sampling with a reservoir",
IPL 2006), because a pool of the least confident teaches a model less than a random one does. The draw is fixed by the
inputs' contents. Each part keeps its best by a fixed order, so what was once turned away would have been turned away at
the end too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from export.contracts.cases import FlagReason
from monitoring.flags import FLAG_BITS
from monitoring.options import CaseOptions
from monitoring.vectors import CELLS

SCORE_BITS = FLAG_BITS[FlagReason.LOW_CONFIDENCE] | FLAG_BITS[FlagReason.NOVELTY]
RULE_BITS = (
    FLAG_BITS[FlagReason.RULE_ERROR] | FLAG_BITS[FlagReason.RULE_NOT_FINITE] | FLAG_BITS[FlagReason.RULE_DEADLINE]
)
AUDIT_BIT = FLAG_BITS[FlagReason.AUDIT]
PROBE_BIT = FLAG_BITS[FlagReason.PROBE]
FEEDBACK_BIT = FLAG_BITS[FlagReason.NEGATIVE_FEEDBACK]
DISAGREEMENT_BIT = FLAG_BITS[FlagReason.DISAGREEMENT]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """What decides about a case, whether it is in the table yet or not."""

    id: str
    flags: int
    rank: float
    audit_rank: float
    content: int | None
    cell: int


def priority(rank: float, audit_rank: float, content: int | None) -> float:
    """Where a record stands in the weighted draw: highest first. ln(u) / weight, the root of P(wrong).

    u comes from the content, so that all copies of an input stand in the same place and which of them came first does
    not matter; without a content, from the low bits of the record's lot.
    """
    u = (audit_rank * 2.0**24) % 1.0 if content is None else content * 0x9E3779B97F4A7C15 % 2**64 / 2.0**64
    return math.log(max(u, 2.0**-29)) / math.sqrt(max(rank, 1e-6))


def probe_order(rank: Floats, audit_rank: Floats) -> Floats:
    """Where records stand among the probes of a window, lowest first: the lot over the chance of having been drawn."""
    return np.asarray(audit_rank / np.sqrt(np.clip(rank, 1e-3, 1.0)))


def top_places(options: CaseOptions) -> int:
    """Places of the scores' pool that go by P(wrong) alone."""
    return -(-options.scored_per_window // 20)


def cell_places(options: CaseOptions) -> int:
    """Places of the scores' pool that each region of the embedding has for itself: half of them, divided."""
    return options.scored_per_window // (2 * CELLS)


def preselect(
    flags: Ints, ranks: Floats, audit_ranks: Floats, contents: Sequence[int | None], cells: Ints, options: CaseOptions
) -> list[int]:
    """Indices that could enter a pool: the best of each, so that few records are looked at one by one."""
    chosen: set[int] = set(_preselect_scores(flags, ranks, audit_ranks, contents, cells, options))
    sure = np.where(flags & RULE_BITS, 1.0, ranks)  # as `monitoring.cases.rank_of` has it
    pools = (
        (AUDIT_BIT, audit_ranks, options.audits_per_window),
        (PROBE_BIT, probe_order(sure, audit_ranks), options.probes_per_window),
        (RULE_BITS, audit_ranks, options.rules_per_window),
        (FEEDBACK_BIT, -ranks, options.feedback_per_window),
    )
    for bits, key, budget in pools:
        members = np.flatnonzero(flags & bits)
        if len(members) > budget:
            # Ties at the edge are decided by id later: take all of them.
            edge = np.partition(key[members], budget - 1)[budget - 1] if budget else -np.inf
            members = members[key[members] <= edge]
        chosen.update(members.tolist())
    return sorted(chosen)


def _preselect_scores(
    flags: Ints, ranks: Floats, lots: Floats, contents: Sequence[int | None], cells: Ints, options: CaseOptions
) -> list[int]:
    members = np.flatnonzero(flags & SCORE_BITS)
    if len(members) <= options.scored_per_window:
        return [int(i) for i in members]
    standings = [
        Standing(
            id=f"{i:016x}",
            flags=int(flags[i]),
            rank=float(ranks[i]),
            audit_rank=float(lots[i]),
            content=contents[i],
            cell=int(cells[i]),
        )
        for i in members.tolist()
    ]
    standings.sort(key=lambda s: (-s.rank, s.audit_rank))
    return [int(identity, 16) for identity in _survivors_of_scores(standings, options)]


def survivors(standings: Sequence[Standing], options: CaseOptions) -> set[str]:
    """Ids of those that stay."""
    by_rank = sorted(standings, key=lambda s: (-s.rank, s.audit_rank, s.id))
    by_lot = sorted(standings, key=lambda s: (s.audit_rank, s.id))
    lots = probe_order(np.array([s.rank for s in by_lot]), np.array([s.audit_rank for s in by_lot]))
    by_probe = [by_lot[i] for i in np.argsort(lots, kind="stable")]
    kept = _survivors_of_scores(by_rank, options)
    for order, bits, budget in (
        (by_lot, AUDIT_BIT, options.audits_per_window),
        (by_probe, PROBE_BIT, options.probes_per_window),
        (by_lot, RULE_BITS, options.rules_per_window),
        (by_rank, FEEDBACK_BIT, options.feedback_per_window),
        (by_rank, DISAGREEMENT_BIT, options.disagreements_per_window),
    ):
        kept.update([s.id for s in order if s.flags & bits][:budget])
    return kept


def _survivors_of_scores(by_rank: Sequence[Standing], options: CaseOptions) -> set[str]:
    """One of each content; the first by rank; the first of each region, then of all, in the weighted draw."""
    best: dict[int | str, Standing] = {}
    for s in by_rank:
        if s.flags & SCORE_BITS:
            best.setdefault(s.content if s.content is not None else s.id, s)
    distinct = list(best.values())
    if len(distinct) <= options.scored_per_window:
        return {s.id for s in distinct}
    top = top_places(options)
    first = [s.id for s in distinct[:top]]
    own, taken = cell_places(options), dict[int, int]()
    rest: list[str] = []
    for s in sorted(distinct[top:], key=lambda s: (-priority(s.rank, s.audit_rank, s.content), s.id)):
        place = taken.get(s.cell, 0)
        taken[s.cell] = place + 1
        (first if place < own else rest).append(s.id)
    return {*first, *rest[: max(options.scored_per_window - len(first), 0)]}
