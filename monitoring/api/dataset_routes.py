"""The JSON operations on data set snapshots, and lineage."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query

from monitoring.api import dataset_models as m
from monitoring.api import fields
from monitoring.api.batch_routes import CHANGE_PROBLEMS
from monitoring.api.dataset_views import DatasetDesk
from monitoring.api.routes import CaseId, RecordId
from monitoring.api.who import Operator

DatasetId = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="Id of the snapshot: 16 hex digits.")]


def dataset_router(desk: DatasetDesk) -> APIRouter:
    """Data set snapshots."""
    router = APIRouter(tags=["datasets"])

    @router.get("/api/datasets")
    def datasets(query: Annotated[m.DatasetQuery, Query()]) -> m.Datasets:
        """Data set snapshots, newest first."""
        return desk.all(query)

    @router.post("/api/datasets", status_code=201, responses=CHANGE_PROBLEMS)
    def build_dataset(asked: m.DatasetBuild, who: Operator) -> m.Dataset:
        """Make a snapshot by a recipe. Takes seconds, where there are many rows."""
        return desk.build(asked, who.name)

    @router.get("/api/datasets/{dataset}")
    def dataset_detail(dataset: DatasetId) -> m.Dataset:
        """One snapshot."""
        return desk.one(dataset)

    @router.get("/api/datasets/{dataset}/check")
    def check_dataset(dataset: DatasetId) -> m.DatasetCheck:
        """Whether its folder still holds what its digest names: reads all of it."""
        return desk.check(dataset)

    @router.get("/api/datasets/{dataset}/suspects")
    def dataset_suspects(dataset: DatasetId) -> m.DatasetSuspects:
        """Labels in it that look wrong."""
        return desk.suspects(dataset)

    @router.get("/api/datasets/{dataset}/rows")
    def dataset_rows(dataset: DatasetId, query: Annotated[m.DatasetRowQuery, Query()]) -> m.DatasetRows:
        """Rows of a snapshot, without their inputs, by their ids."""
        return desk.rows(dataset, query)

    @router.get("/api/datasets/{dataset}/diff/{other_dataset}")
    def dataset_diff(
        dataset: DatasetId, other_dataset: DatasetId, query: Annotated[m.DatasetDiffQuery, Query()]
    ) -> m.DatasetDiff:
        """What differs in the other one: rows added, removed, with another label, in another split."""
        return desk.diff(dataset, other_dataset, query)

    @router.get("/api/lineage/case/{case}", tags=["lineage"])
    def lineage_of_case(case: CaseId) -> m.Lineage:
        """From a case to the record before it, and to the snapshots and versions behind it."""
        return desk.of_case(case)

    @router.get("/api/lineage/version/{model}", tags=["lineage"])
    def lineage_of_version(
        model: Annotated[fields.Name, Path()], query: Annotated[m.LineageVersionQuery, Query()]
    ) -> m.Lineage:
        """From a version to its snapshot and the records that it was trained on."""
        return desk.of_version(model, query.version)

    @router.get("/api/lineage/record/{record_id:path}", tags=["lineage"])
    def lineage_of_record(record_id: RecordId, query: Annotated[m.LineageRecordQuery, Query()]) -> m.Lineage:
        """From a record to its case, what was said about it, snapshots that hold it, versions trained on them."""
        return desk.of_record(record_id, query.model)

    return router
