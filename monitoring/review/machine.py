"""Where a case goes when somebody says something about it: pure functions, with the time as an argument.

A lease is a fact with an end, not a state that somebody must end: once it is past, it is as if it had never been. So
`state` in the database is never `leased`; `shown_state` says whether a case is, now.

A case asks for the opinions of so many people. One is enough by default, and then the newest decision holds. Several
settle a case when that many agree; when they do not, one more person is asked, until that many agree or a majority
does. Who says "unclear" asks somebody else, once: when that one cannot tell either, the case is dismissed as unclear.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

from export.contracts.cases import CaseState
from monitoring.review.contracts import Standing, Verdict

WAITING = (CaseState.OPEN, CaseState.SECOND_OPINION)
"""States in which a case waits for a reviewer."""
MOST_OPINIONS = 9
MOST_PRIORITY = 1000


NAMES = tuple(field.name for field in fields(Standing))


class Refusal(Exception):
    """What somebody wanted is not possible as the case stands; the text says why, to the reviewer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Opinion:
    """What one person says of a case now.

    Attributes:
        label: JSON text of what is right, where it is known: also of a verdict "correct". "" where it is not.
    """

    actor: str
    verdict: Verdict
    label: str = ""

    @property
    def says(self) -> tuple[str, str]:
        """What it has in common with an opinion that agrees: "correct" and a label are the same when they name one."""
        if self.verdict in (Verdict.CORRECT, Verdict.LABEL) and self.label:
            return "label", self.label
        return self.verdict.value, ""


def standing_of(row: Mapping[str, Any]) -> Standing:
    """From a row that names its columns as a standing does."""
    values = {name: row[name] for name in NAMES}
    values["state"] = CaseState(values["state"])
    return Standing(**values)


def leased(standing: Standing, now_ns: int) -> bool:
    """Whether somebody has the case now."""
    return bool(standing.lease_by) and standing.lease_until_ns > now_ns and standing.state in WAITING


def shown_state(standing: Standing, now_ns: int) -> CaseState:
    """The state as lists show it."""
    return CaseState.LEASED if leased(standing, now_ns) else standing.state


def lease(standing: Standing, actor: str, until_ns: int, now_ns: int) -> Standing:
    """Take a case, or keep it for longer.

    Raises:
        Refusal: somebody else has it, or it waits for nobody.
    """
    _not_anothers(standing, actor, now_ns)
    if standing.state not in WAITING:
        raise Refusal("nobody needs to look at this case any more")
    return replace(standing, lease_by=actor, lease_until_ns=until_ns)


def release(standing: Standing, actor: str) -> Standing:
    """Give a case back.

    Raises:
        Refusal: the actor does not have it.
    """
    if standing.lease_by != actor:
        raise Refusal("you do not have this case")
    return replace(standing, lease_by="", lease_until_ns=0)


def decide(
    standing: Standing, opinion: Opinion, edition: int | None, given: Sequence[Opinion], now_ns: int
) -> Standing:
    """Give an opinion.

    Args:
        standing: How the case stands.
        opinion: What the reviewer says of it.
        edition: Of the case as the reviewer read it; None where a selection was decided on, not a case that was read.
        given: Opinions that hold so far, one a person; the actor's own may be among them.
        now_ns: The time of the decision.

    Raises:
        Refusal: the edition is another one; somebody else has the case; the actor has given an opinion already.
    """
    _not_anothers(standing, opinion.actor, now_ns)
    if edition is not None and edition != standing.edition:
        raise Refusal(_changed(standing))
    own = any(x.actor == opinion.actor for x in given)
    if own and standing.state is CaseState.SECOND_OPINION:
        raise Refusal("you have given your opinion on this case: it waits for somebody else (undo takes yours back)")
    others = [x for x in given if x.actor != opinion.actor]
    settled = settle([*others, opinion], standing.opinions)
    if settled is None:
        state, verdict, label, decided_by, decided_ns = CaseState.SECOND_OPINION, "", "", "", 0
    else:
        gone = settled.verdict in (Verdict.DISMISS, Verdict.UNCLEAR)
        state = CaseState.DISMISSED if gone else CaseState.LABELLED
        verdict, label, decided_by = settled.verdict.value, settled.label, settled.actor
        decided_ns = max(now_ns, standing.decided_ns + 1)
    return replace(
        standing,
        edition=standing.edition + 1,
        lease_by="",
        lease_until_ns=0,
        state=state,
        verdict=verdict,
        label=label,
        decided_by=decided_by,
        decided_ns=decided_ns,
    )


def settle(opinions: Sequence[Opinion], needed: int) -> Opinion | None:
    """What a case comes to, given everybody's opinion, the newest last; None: somebody else is to be asked.

    Example:
        >>> ann, bob = (Opinion(actor=a, verdict=Verdict.LABEL, label='"cat"') for a in ("ann", "bob"))
        >>> settle([ann], 2) is None, settle([ann, bob], 2).label
        (True, '"cat"')
    """
    newest = opinions[-1]
    unclear = [x for x in opinions if x.verdict is Verdict.UNCLEAR]
    votes = [x for x in opinions if x.verdict is not Verdict.UNCLEAR]
    if len(unclear) > 1 and newest.verdict is Verdict.UNCLEAR:
        return newest
    if needed <= 1:
        return None if newest.verdict is Verdict.UNCLEAR else newest
    counts = Counter(x.says for x in votes).most_common(2)
    if not counts or (len(counts) > 1 and counts[0][1] == counts[1][1]):
        return None
    says, most = counts[0]
    if most < needed and not (len(votes) > needed and 2 * most > len(votes)):
        return None
    return [x for x in votes if x.says == says][-1]


def ask_opinions(standing: Standing, opinions: int, given: Sequence[Opinion], now_ns: int) -> Standing:
    """Ask for the opinions of so many people; what was given counts.

    Raises:
        Refusal: the number is out of range.
    """
    if not 1 <= opinions <= MOST_OPINIONS:
        raise Refusal(f"opinions: 1 to {MOST_OPINIONS} people can be asked")
    after = replace(standing, opinions=opinions, edition=standing.edition + 1)
    votes = [x for x in given if x.verdict is not Verdict.UNCLEAR]
    if not votes:
        return after  # nobody has said anything that more people could agree with
    settled = settle(votes, opinions)
    if settled is None:
        open_again = {"verdict": "", "label": "", "decided_by": "", "decided_ns": 0}
        return replace(after, state=CaseState.SECOND_OPINION, **open_again)  # type: ignore[arg-type]  # the columns' types
    if standing.state not in WAITING:
        return after
    return replace(
        after,
        state=CaseState.DISMISSED if settled.verdict is Verdict.DISMISS else CaseState.LABELLED,
        verdict=settled.verdict.value,
        label=settled.label,
        decided_by=settled.actor,
        decided_ns=max(now_ns, standing.decided_ns + 1),
    )


def assign(standing: Standing, assignee: str) -> Standing:
    """Say who shall look; "" is anybody. It binds the order of work, not what may be decided."""
    return replace(standing, assignee=assignee)


def prioritise(standing: Standing, priority: int) -> Standing:
    """Move a case before, or behind, the queue's own order.

    Raises:
        Refusal: the number is out of range.
    """
    if abs(priority) > MOST_PRIORITY:
        raise Refusal(f"priority: -{MOST_PRIORITY} to {MOST_PRIORITY}")
    return replace(standing, priority=priority)


def _not_anothers(standing: Standing, actor: str, now_ns: int) -> None:
    if leased(standing, now_ns) and standing.lease_by != actor:
        until = datetime.fromtimestamp(standing.lease_until_ns // 10**9, UTC)
        raise Refusal(f"{standing.lease_by} has this case until {until:%H:%M:%S} UTC")


def _changed(standing: Standing) -> str:
    if standing.decided_by:
        return f"this case was changed since you read it: {standing.decided_by} said {standing.verdict}"
    return "this case was changed since you read it"
