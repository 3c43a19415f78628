"""The JSON operations about MLflow. None of them calls it: that is the loop's work."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from fastapi import APIRouter

from export.contracts.errors import NotFound
from monitoring.api import mlflow_models as m
from monitoring.api import models
from monitoring.api.fields import from_ns
from monitoring.api.who import Operator, Viewer
from monitoring.catalogue import Catalogue
from monitoring.integrations import tool_rows
from monitoring.integrations.mlflow import rows
from monitoring.integrations.mlflow.links import run_link, version_link
from monitoring.integrations.mlflow.names import ImportState, Service
from monitoring.integrations.mlflow.options import ExperimentOptions
from monitoring.integrations.mlflow.rows import ImportRow
from monitoring.store import Store

PULLED = 100
PROBLEMS: dict[int | str, dict[str, Any]] = {
    403: {"model": models.ErrorBody, "description": "Another site's page, or a role that may not do this."},
    413: {"model": models.ErrorBody, "description": "The body has no stated length, or is too large."},
}


def mlflow_router(
    store: Store, catalogue: Catalogue, options: ExperimentOptions, clock: Callable[[], datetime]
) -> APIRouter:
    """What MLflow was told, and what is fetched from it."""
    router = APIRouter(tags=["mlflow"])

    def configured() -> ExperimentOptions:
        if not options.url:
            raise NotFound("no MLflow server is configured (experiments.url in the settings)")
        return options

    @router.get("/api/mlflow")
    def mlflow(who: Viewer) -> m.MlflowStatus:
        """How the exchange with MLflow is doing: versions of ours there, and versions that were fetched."""
        base = configured().url
        row = tool_rows.tool_row(store, Service.MLFLOW)
        runs = rows.runs(store)
        return m.MlflowStatus(
            url=base,
            imports=options.imports,
            answers=False if row.failing_ns else True if row.answered_ns else None,
            problem=row.problem or None,
            failing_since=from_ns(row.failing_ns) if row.failing_ns else None,
            answered_at=from_ns(row.answered_ns) if row.answered_ns else None,
            runs=len(runs),
            versions=[
                m.MlflowVersion(
                    model=one.model,
                    version=one.version,
                    name=one.name,
                    number=one.number,
                    url=version_link(base, one.name, one.number),
                    run=one.run,
                    run_url=run_link(base, runs[one.run], one.run) if one.run in runs else "",
                )
                for model in catalogue.models()
                for one in rows.version_rows(store, model).values()
            ],
            pulled=[_import(base, row) for row in rows.newest_imports(store, PULLED)],
        )

    @router.post("/api/mlflow/pull", status_code=202, responses=PROBLEMS)
    def pull_version(asked: m.MlflowPull, who: Operator) -> m.MlflowImport:
        """Have a registered version fetched, checked, gated and rolled out; one that was refused is tried again.

        It needs no tag in MLflow, and `experiments.imports` need not be on: who asks here may.
        """
        names = {configured().name_of(model): model for model in catalogue.models()}
        model = asked.model or names.get(asked.name)
        if model is None:
            raise NotFound(f"no model of the registry is '{asked.name}' in MLflow: name the model")
        now_ns = int(clock().timestamp() * 1e9)
        return _import(options.url, rows.ask_for(store, asked.name, asked.number, model, who.name, now_ns))

    return router


def _import(base: str, row: ImportRow) -> m.MlflowImport:
    return m.MlflowImport(
        name=row.name,
        number=row.number,
        model=row.model,
        state=ImportState(row.state),
        version=row.version if row.training_id else "",
        training=row.training_id,
        asked_by=row.asked_by,
        found_at=from_ns(row.found_ns),
        problem=row.problem,
        url=version_link(base, row.name, row.number),
    )
