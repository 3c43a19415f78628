"""The pages about data sets and lineage."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import RedirectResponse

from monitoring.api import dataset_models as m
from monitoring.api import fields
from monitoring.api.dataset_routes import DatasetId
from monitoring.api.dataset_views import DatasetDesk
from monitoring.api.routes import CaseId, RecordId
from monitoring.api.who import Operator
from monitoring.console.build import Builder
from monitoring.console.build_datasets import dataset_page, datasets_page, diff_page, lineage_page
from monitoring.console.pages import form_of, render
from monitoring.datasets import lineage
from monitoring.datasets.build import manifest_of


def datasets_router(builder: Builder, desk: DatasetDesk) -> APIRouter:
    """Data sets and lineage."""
    router = APIRouter(include_in_schema=False)
    store, catalogue = desk.source.store, desk.source.catalogue

    @router.get("/datasets")
    def all_datasets(request: Request, model: fields.Name | None = None) -> Response:
        return render(request, "datasets.html", datasets_page(builder, desk, model))

    @router.post("/datasets")
    async def make_dataset(request: Request, who: Operator) -> Response:
        form = await form_of(request)
        share = form.get("new_percent", "")
        recipe = {"name": form.get("name", ""), "labels": form.get("labels", "any"), "noise": form.get("noise", "list")}
        given = recipe | ({"new_share": fields.checked(_Percent, {"percent": share}).percent / 100} if share else {})
        made = desk.build(m.DatasetBuild.model_validate({"model": form.get("model", ""), "recipe": given}), who.name)
        return RedirectResponse(f"/datasets/{made.id}", status_code=303)

    @router.get("/datasets/{dataset}")
    def one_dataset(request: Request, dataset: DatasetId) -> Response:
        return render(request, "dataset.html", dataset_page(builder, desk, dataset))

    @router.get("/datasets/{dataset}/diff/{other_dataset}")
    def dataset_diff(request: Request, dataset: DatasetId, other_dataset: DatasetId) -> Response:
        return render(request, "dataset_diff.html", diff_page(builder, desk, dataset, other_dataset))

    @router.get("/lineage/case/{case}")
    def case_lineage(request: Request, case: CaseId) -> Response:
        found = lineage.of_case(store, catalogue, desk.folder, case)
        return render(request, "lineage.html", lineage_page(builder, desk, found))

    @router.get("/lineage/version/{model}")
    def version_lineage(
        request: Request, model: Annotated[fields.Name, Path()], version: fields.Name | None = None
    ) -> Response:
        folder = desk.folder
        found = lineage.of_version(store, catalogue, folder, model, version or manifest_of(catalogue, model).version)
        return render(request, "lineage.html", lineage_page(builder, desk, found))

    @router.get("/lineage/record/{record_id:path}")
    def record_lineage(request: Request, record_id: RecordId, model: fields.Name | None = None) -> Response:
        found = lineage.of_record(store, catalogue, desk.folder, record_id, model)
        return render(request, "lineage.html", lineage_page(builder, desk, found))

    return router


class _Percent(fields.Asked):
    percent: float
