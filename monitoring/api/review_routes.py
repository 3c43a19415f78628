"""The JSON operations of reviewing: one short function each."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from monitoring.api import models
from monitoring.api import review_models as m
from monitoring.api.review_views import ReviewView, changed
from monitoring.api.routes import CaseId
from monitoring.api.who import Reviewer, Viewer

ActId = Annotated[int, Path(ge=1, le=2**62, description="Number of the act.")]
PROBLEMS: dict[int | str, dict[str, Any]] = {
    403: {"model": models.ErrorBody, "description": "Another site's page, or a role that may not do this."},
    409: {"model": models.ErrorBody, "description": "Somebody was first, or the key names another act; says what."},
    413: {"model": models.ErrorBody, "description": "The body has no stated length, or is too large."},
}


def ledger_router(review: ReviewView) -> APIRouter:
    """Leases, decisions, undo, the trail."""
    router = APIRouter(tags=["review"])
    ledger = review.ledger

    @router.post("/api/review/lease", responses=PROBLEMS)
    def lease_cases(ask: m.LeaseAsk, who: Reviewer) -> m.Leased:
        """Take the next cases of the queue; nobody else gets them until the lease ends. Asking again extends it."""
        return review.lease(who, ask)

    @router.post("/api/review/release", responses=PROBLEMS)
    def release_cases(ask: m.ReleaseAsk, who: Reviewer) -> m.Released:
        """Give cases back before their lease ends."""
        return m.Released(released=ledger.release(who.name, ask.cases))

    @router.post("/api/review/decisions", responses=PROBLEMS)
    def decide_cases(ask: m.DecisionsAsk, who: Reviewer) -> m.Decided:
        """Decide about cases one by one. What one refuses (see its `conflict`) does not touch the others."""
        return review.decide(who, ask)

    @router.post("/api/review/bulk/preview", responses=PROBLEMS)
    def preview_bulk(ask: m.PreviewAsk, who: Reviewer) -> m.Preview:
        """What a decision about many cases would do. Changes nothing."""
        return review.preview(who, ask)

    @router.post("/api/review/bulk", responses=PROBLEMS)
    def decide_bulk(ask: m.BulkAsk, who: Reviewer) -> m.Changed:
        """Decide about everything in a selection: one act, one undo."""
        return review.bulk(who, ask)

    @router.post("/api/review/acts/{act}/undo", responses=PROBLEMS)
    def undo_act(act: ActId, ask: m.UndoAsk, who: Reviewer) -> m.Changed:
        """Take an act back, as far as its cases have not been changed since. An operator may undo anybody's."""
        return review.undo(who, act, ask.key)

    @router.get("/api/review/acts")
    def review_acts(query: Annotated[m.ActQuery, Query()], who: Viewer) -> m.Acts:
        """The audit trail, newest first; give `next` as `cursor` for the page after it."""
        return review.acts(query)

    @router.get("/api/cases/{case}/history")
    def case_history(case: CaseId, who: Viewer) -> m.History:
        """Who did what to a case, when, from where to where."""
        return review.history(case)

    @router.post("/api/review/assign", responses=PROBLEMS)
    def assign_cases(ask: m.AssignAsk, who: Reviewer) -> m.Changed:
        """Say who shall look."""
        return changed(ledger.assign(who.name, ask.key, ask.selection.domain(), ask.assignee or ""))

    @router.post("/api/review/priority", responses=PROBLEMS)
    def prioritise_cases(ask: m.PriorityAsk, who: Reviewer) -> m.Changed:
        """Move cases before, or behind, the queue's own order."""
        return changed(ledger.prioritise(who.name, ask.key, ask.selection.domain(), ask.priority))

    @router.post("/api/review/opinions", responses=PROBLEMS)
    def ask_opinions(ask: m.OpinionsAsk, who: Reviewer) -> m.Changed:
        """Ask so many people; what was said so far counts."""
        return changed(ledger.ask_opinions(who.name, ask.key, ask.selection.domain(), ask.opinions))

    @router.post("/api/review/tags", responses=PROBLEMS)
    def tag_cases(ask: m.TagsAsk, who: Reviewer) -> m.Changed:
        """Add and remove tags."""
        return changed(ledger.tag(who.name, ask.key, ask.selection.domain(), ask.add, ask.remove))

    @router.post("/api/review/comments", responses=PROBLEMS)
    def comment_cases(ask: m.CommentAsk, who: Reviewer) -> m.Changed:
        """Say something about cases without deciding."""
        return changed(ledger.comment(who.name, ask.key, ask.selection.domain(), ask.comment))

    @router.get("/api/review/pace")
    def review_pace(query: Annotated[m.PaceQuery, Query()], who: Viewer) -> m.Pace:
        """How many were decided today, how fast it goes, what waits, how well reviewers agree."""
        return review.pace(query)

    return router
