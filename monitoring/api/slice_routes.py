"""The JSON operations on slices: acts, history, batches, test sets."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from monitoring.api import batch_models
from monitoring.api import finding_models as f
from monitoring.api import slice_models as m
from monitoring.api.batch_routes import CHANGE_PROBLEMS, batch_of
from monitoring.api.finding_routes import SliceId
from monitoring.api.slice_views import SliceDesk
from monitoring.api.who import Operator, Reviewer

TestSetId = Annotated[str, Path(pattern="^[0-9a-f]{12}$", description="Id of the test set: 12 hex digits.")]


def slice_router(desk: SliceDesk) -> APIRouter:
    """What people do with slices."""
    router = APIRouter(tags=["slices"])

    @router.post("/api/slices/{slice_id}/acts", responses=CHANGE_PROBLEMS)
    def slice_act(slice_id: SliceId, asked: m.SliceActAsked, who: Reviewer) -> f.Slice:
        """Acknowledge, own, fix, ignore, reopen, merge, split, watch: for operators. Comment: for reviewers."""
        desk.do(slice_id, asked, who)
        return desk.findings.slice(slice_id)

    @router.get("/api/slices/{slice_id}/history")
    def slice_history(slice_id: SliceId) -> m.SliceHistory:
        """Everything that was done about a slice, by people and by the searches."""
        return desk.history(slice_id)

    @router.get("/api/slices/{slice_id}/splits")
    def slice_splits(slice_id: SliceId) -> m.SplitChoices:
        """By what a slice can be split, the most telling first. Reads the newest span: takes a moment."""
        return desk.choices(slice_id)

    @router.post("/api/slices/{slice_id}/batch", status_code=201, responses=CHANGE_PROBLEMS)
    def slice_batch(slice_id: SliceId, asked: m.SliceBatchAsked, who: Operator) -> batch_models.Batch:
        """Fix this: make a labelling batch of its cases."""
        return batch_of(desk.batch(slice_id, asked, who))

    @router.post("/api/slices/{slice_id}/test-set", status_code=201, responses=CHANGE_PROBLEMS)
    def slice_test_set(slice_id: SliceId, asked: m.TestSetAsked, who: Operator) -> m.TestSet:
        """Make a protected test set of its cases whose truth is known."""
        return desk.test_set(slice_id, asked, who)

    @router.get("/api/test-sets")
    def all_test_sets(query: Annotated[m.TestSetQuery, Query()]) -> m.TestSets:
        """Protected test sets, newest first."""
        return m.TestSets(test_sets=desk.sets(query))

    @router.get("/api/test-sets/{test_set}")
    def one_test_set(test_set: TestSetId) -> m.TestSet:
        """One test set."""
        return desk.one_set(test_set)

    @router.get("/api/test-sets/{test_set}/items")
    def test_set_items(test_set: TestSetId, query: Annotated[m.TestSetItemQuery, Query()]) -> m.TestSetItems:
        """The failures of a test set with their truth."""
        return desk.items(test_set, query)

    return router
