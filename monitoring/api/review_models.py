"""What the review API asks and answers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, StringConstraints

from monitoring.api.asks import CaseFilter
from monitoring.api.fields import Answer, Asked, Label, Name, Share, Time
from monitoring.api.models import Case, CaseDetail, Standing
from monitoring.review.asked import Selection as DomainSelection
from monitoring.review.contracts import BULK_LIMIT, LEASE_S, ActKind, Verdict
from monitoring.review.deciding import MAX_COMMENT
from monitoring.review.ledger import MAX_DECISIONS, MAX_LEASE, MAX_LEASE_S
from monitoring.review.machine import MOST_OPINIONS, MOST_PRIORITY

CaseRef = Annotated[str, StringConstraints(pattern="^[0-9a-f]{16}$")]
Key = Annotated[
    str,
    StringConstraints(min_length=1, max_length=100),
    Field(description="Names this act: asked again with the same key, the first answer is given and nothing is done."),
]
Comment = Annotated[str, StringConstraints(max_length=MAX_COMMENT)]
Person = Annotated[str, StringConstraints(max_length=64)]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class LeaseAsk(Asked):
    """Which cases, how many, for how long."""

    model: Name | None = None
    version: Name | None = None
    slice: Annotated[str, StringConstraints(pattern="^[0-9a-f]{12}$")] | None = None
    tag: Tag | None = None
    batch: Annotated[str, StringConstraints(pattern="^[0-9a-f]{12}$")] | None = None
    skip: list[CaseRef] = Field([], max_length=200, description="Cases to leave out: the caller has passed them by.")
    count: int = Field(1, ge=1, le=MAX_LEASE)
    seconds: int = Field(LEASE_S, ge=1, le=MAX_LEASE_S)


class Leased(Answer):
    """The caller's cases, in the order of the queue: those of before, for longer, and new ones."""

    cases: list[CaseDetail]
    until: Time = Field(description="When the leases end.")
    waiting: int = Field(description="How many cases wait for anybody.")


class ReleaseAsk(Asked):
    """Cases to give back."""

    cases: list[CaseRef] = Field(min_length=1, max_length=MAX_LEASE)


class Released(Answer):
    """How many of them the caller had."""

    released: int


class DecisionAsk(Asked):
    """What the caller says of a case."""

    case: CaseRef
    edition: int = Field(ge=0, description="Of the case as it was read: `standing.edition`.")
    verdict: Verdict
    label: Label = Field(
        None, description='What is right, with the verdict "label": of the case\'s row, or {"rows": [...]} of all rows.'
    )
    comment: Comment | None = None


class DecisionsAsk(Asked):
    """Decisions about cases, each by itself."""

    key: Key
    decisions: list[DecisionAsk] = Field(min_length=1, max_length=MAX_DECISIONS)


class DecisionResult(Answer):
    """What became of one of them."""

    case: str
    ok: bool
    standing: Standing | None = Field(description="How the case stands now; null where there is none.")
    conflict: str | None = Field(description="Why nothing was done.")


class Decided(Answer):
    """What became of all of them."""

    act: int = Field(description="To be undone by.")
    results: list[DecisionResult]


class SelectionAsk(Asked):
    """Which cases: exactly one of cases, filter, slice, like."""

    cases: list[CaseRef] | None = Field(None, min_length=1, max_length=BULK_LIMIT)
    filter: CaseFilter | None = Field(None, description="As in the list of cases.")
    slice: Annotated[str, StringConstraints(pattern="^[0-9a-f]{12}$")] | None = None
    like: CaseRef | None = Field(None, description="This case and those whose embedding is like its.")
    likeness: Share = Field(0.9, description="Least cosine to it.")
    limit: int = Field(500, ge=1, le=BULK_LIMIT, description="Most cases that are like it.")

    def domain(self) -> DomainSelection:
        """As the ledger takes it."""
        return DomainSelection(
            cases=None if self.cases is None else tuple(self.cases),
            filter=None if self.filter is None else self.filter.terms(),
            slice=self.slice,
            like=self.like,
            likeness=self.likeness,
            limit=self.limit,
        )


class PreviewAsk(Asked):
    """A decision about many cases."""

    selection: SelectionAsk
    verdict: Verdict
    label: Label = None
    comment: Comment | None = None
    again: bool = Field(False, description="Also about cases that are settled already.")


class BulkAsk(PreviewAsk):
    """The same, to be done."""

    key: Key
    expect: int | None = Field(
        None, ge=0, description="How many cases would change as the caller saw it; otherwise nothing is done (409)."
    )


class Preview(Answer):
    """What it would do."""

    count: int = Field(description="Cases that would change.")
    examples: list[Case]
    by: dict[str, int] = Field(description="Of those that would change: how many were answered how.")
    skipped: dict[str, int] = Field(description="Of the others: how many why.")


class Changed(Answer):
    """What became of an act over many cases."""

    act: int = Field(description="To be undone by.")
    changed: int
    skipped: dict[str, int] = Field(description="How many were left, by why.")


class MarkAsk(Asked):
    """An act over some cases."""

    key: Key
    selection: SelectionAsk


class AssignAsk(MarkAsk):
    """Who shall look."""

    assignee: Person | None = Field(description="Null: anybody.")


class PriorityAsk(MarkAsk):
    """How soon."""

    priority: int = Field(ge=-MOST_PRIORITY, le=MOST_PRIORITY, description="Higher first; 0 is usual.")


class OpinionsAsk(MarkAsk):
    """How many people must agree."""

    opinions: int = Field(ge=1, le=MOST_OPINIONS)


class TagsAsk(MarkAsk):
    """Tags to add and to remove."""

    add: list[Tag] = Field([], max_length=20)
    remove: list[Tag] = Field([], max_length=20)


class CommentAsk(MarkAsk):
    """Something to say."""

    comment: Annotated[str, StringConstraints(min_length=1, max_length=MAX_COMMENT)]


class UndoAsk(Asked):
    """An undo is an act too."""

    key: Key


class Act(Answer):
    """What somebody did at once."""

    id: int
    actor: str
    time: Time
    kind: ActKind
    detail: dict[str, Any] = Field(description="What was asked, without the cases one by one.")
    cases: int = Field(description="How many were changed.")
    undoes: int | None
    undone_by: int | None


class Acts(Answer):
    """The audit trail, newest first."""

    acts: list[Act]
    next: str | None


class ActQuery(Asked):
    """Which acts."""

    actor: Person | None = None
    case: CaseRef | None = None
    kind: ActKind | None = None
    cursor: Annotated[str, StringConstraints(max_length=20)] | None = None
    limit: int = Field(50, ge=1, le=500)


class Step(Answer):
    """What an act did to a case."""

    act: Act
    verdict: Verdict | None
    label: Label
    comment: str | None
    before: dict[str, Any] = Field(description="What of the standing changed: from.")
    after: dict[str, Any] = Field(description="... to.")
    withdrawn: bool = Field(description="The act was undone: it counts no more.")


class History(Answer):
    """Everything that was done to a case, newest first."""

    case: str
    tags: list[str]
    steps: list[Step]


class PaceQuery(Asked):
    """Whose, and of which model."""

    actor: Person | None = None
    model: Name | None = None


class Agreement(Answer):
    """Agreement between two people on one case, over all such pairs."""

    pairs: int
    share: Share | None = Field(description="Pairs that say the same; null without pairs.")
    kappa: float | None = Field(description="Cohen's; null where chance explains everything.")


class Pace(Answer):
    """How reviewing goes."""

    decided: int = Field(description="Cases decided today (UTC) and not undone.")
    single: int = Field(description="Of them one by one.")
    per_minute: float = Field(description="Over the last ten minutes.")
    waiting: int
    agreement: Agreement
