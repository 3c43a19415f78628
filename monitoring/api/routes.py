"""The JSON operations: one short function each."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from export.contracts.errors import InvalidRequest, NotFound
from monitoring.accuracy.queries import labelled_history
from monitoring.api import accuracy_models, answers, asks, fields, fit_models, report_models
from monitoring.api import models as m
from monitoring.api.options import ConsoleOptions, IngestHealth, MonitorView, Targets
from monitoring.api.views import View
from monitoring.api.who import Operator
from monitoring.reports import ReportService

Model = Annotated[fields.Name, Path(description="Name of the model.")]
CaseId = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="Id of the case: 16 hex digits.")]
RecordId = Annotated[str, Path(min_length=1, max_length=128, description="Id of the record, as the client gave it.")]
ReportId = Annotated[str, Path(pattern="^[0-9a-f]{20}$", description="Id of the report: 20 hex digits.")]

PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": m.ErrorBody, "description": "A parameter is unknown or wrong; the text names it."},
    401: {"model": m.ErrorBody, "description": "A token is configured and was not shown."},
    404: {"model": m.ErrorBody, "description": "What the address names does not exist."},
}
START_PROBLEMS: dict[int | str, dict[str, Any]] = {
    403: {"model": m.ErrorBody, "description": "The request comes from another site's page."},
    413: {"model": m.ErrorBody, "description": "The body has no stated length, or is too large."},
    503: {"model": m.ErrorBody, "description": "Too many reports wait; Retry-After says when to ask again."},
}


class KnownQueries:
    """Refuses a query parameter that the operation does not have, or that is given twice."""

    def __init__(self) -> None:
        """Nothing has been asked yet: what an operation knows is read from its route when it is first called."""
        self._known: dict[tuple[str, str], tuple[str, ...]] = {}

    def __call__(self, request: Request) -> None:
        """Check one request.

        Raises:
            InvalidRequest: names the parameter.
        """
        route = request.scope["route"]
        if not isinstance(route, APIRoute) or not route.include_in_schema:
            return
        operation = (request.method, route.path)
        allowed = self._known.get(operation)
        if allowed is None:
            allowed = self._known[operation] = _query_parameters(route)
        for name in request.query_params:
            if name not in allowed:
                known = f"this address knows {', '.join(allowed)}" if allowed else "this address knows none"
                raise InvalidRequest(f"query parameter '{name[:64]}' is unknown: {known}")
            if len(request.query_params.getlist(name)) > 1:
                raise InvalidRequest(f"query parameter '{name}' is given more than once")


def _query_parameters(route: APIRoute) -> tuple[str, ...]:
    (operations,) = get_openapi(title="", version="", routes=[route])["paths"].values()
    parameters = [p for operation in operations.values() for p in operation.get("parameters", ())]
    return tuple(p["name"] for p in parameters if p["in"] == "query")


def readiness(health: IngestHealth, options: ConsoleOptions) -> m.Health:
    """Readiness in words: a loop that hangs, fails, or falls behind."""
    reasons = []
    if health.error is not None:
        reasons.append(health.error)
    if health.heartbeat_age_s is None:
        reasons.append("the monitor has not finished a first cycle")
    elif health.heartbeat_age_s > options.ready_lag_s:
        reasons.append(f"the monitor's loop has not come round for {health.heartbeat_age_s:.0f} s")
    if health.lag_s > options.ready_lag_s:
        reasons.append(f"the monitor is {health.lag_s:.0f} s behind the record log")
    return m.Health(
        ready=not reasons,
        reasons=reasons,
        heartbeat_age_s=health.heartbeat_age_s,
        lag_s=health.lag_s,
        lag_bytes=health.lag_bytes,
        records=health.records,
    )


def health_router(monitor: MonitorView, targets: Targets, options: ConsoleOptions) -> APIRouter:
    """Health and service discovery."""
    router = APIRouter(tags=["health"])

    @router.get("/api/health")
    def health() -> m.Health:
        """Liveness, readiness and ingest lag. Always 200 while the process lives."""
        return readiness(monitor.health(), options)

    @router.get("/api/health/live")
    def live() -> dict[str, bool]:
        """200 while the process lives. Needs no token."""
        return {"live": True}

    @router.get("/api/health/ready", responses={503: {"model": m.Health, "description": "Not ready; says why."}})
    def ready(response: Response) -> m.Health:
        """200 when ready, 503 when not."""
        answer = readiness(monitor.health(), options)
        response.status_code = 200 if answer.ready else 503
        return answer

    @router.get("/sd/prometheus", tags=["metrics"])
    def prometheus_targets() -> list[m.TargetGroup]:
        """Prometheus HTTP service discovery: every serving replica and the monitor itself."""
        return [m.TargetGroup(targets=[t], labels={"__metrics_path__": "/metrics"}) for t in targets()]

    return router


def model_router(view: View) -> APIRouter:
    """Models, windows, drift."""
    router = APIRouter(tags=["models"])

    @router.get("/api/models")
    def models() -> m.Models:
        """All models with plan, versions and how they did over the newest windows."""
        return m.Models(models=[view.summary(name) for name in view.models()])

    @router.get("/api/models/{model}")
    def model_summary(model: Model) -> m.ModelSummary:
        """One model."""
        return view.summary(view.known(model))

    @router.get("/api/models/{model}/windows")
    def windows(model: Model, query: Annotated[asks.WindowQuery, Query()]) -> m.Windows:
        """Windows, oldest first; the newest `limit` of the range."""
        return m.Windows(model=view.known(model, query.version), windows=view.windows(model, query))

    @router.get("/api/models/{model}/drift")
    def drift(model: Model, query: Annotated[asks.DriftQuery, Query()]) -> m.Drift:
        """Drift signals against the reference compiled at export."""
        return m.Drift(model=view.known(model, query.version), signals=view.drift(model, query))

    @router.get("/api/models/{model}/accuracy/backtest")
    def accuracy_backtest(model: Model, query: Annotated[asks.BacktestQuery, Query()]) -> accuracy_models.Backtest:
        """How well each estimate did on the windows that have labels for at least half of their rows."""
        tried = labelled_history(
            view.store, view.known(model, query.version), query.version, query.audit_labels, query.limit
        )
        return accuracy_models.backtest_of(model, query.version, query.audit_labels, tried)

    @router.get("/api/models/{model}/accuracy")
    def accuracy(model: Model, query: Annotated[asks.AccuracyQuery, Query()]) -> accuracy_models.Accuracy:
        """How accurate each version is, with and without labels, and what speaks against each estimate."""
        return accuracy_models.accuracy_of(view.store, view.known(model, query.version), query)

    @router.get("/api/models/{model}/score-fits")
    def score_fits(model: Model, query: Annotated[asks.FitQuery, Query()]) -> fit_models.ScoreFits:
        """By what P(wrong) is given, and every refit that was tried, with its evidence."""
        return fit_models.score_fits(view, model, query.version, query.limit)

    return router


def case_router(view: View) -> APIRouter:
    """Cases, records, accounting."""
    router = APIRouter(tags=["cases"])

    @router.get("/api/cases/{case}")
    def case_detail(case: CaseId) -> m.CaseDetail:
        """A case with scores, probabilities, timings and feedback."""
        return view.case_detail(case)

    @router.get("/api/records/{record_id:path}")
    def records(record_id: RecordId, model: Annotated[fields.Name | None, Query()] = None) -> m.Records:
        """What is known of a record: more than one when a client used an id again."""
        found = view.store.records(record_id, model)
        if not found:
            raise NotFound("there is no record with this id, or it is older than the retention")
        return m.Records(records=[view.record(row) for row in found])

    @router.get("/api/accounting")
    def accounting() -> m.Accounting:
        """Conservation: captured + sampled out + dropped + lost = requests."""
        return view.accounting()

    return router


def report_router(view: View, reports: ReportService) -> APIRouter:
    """Evidently's reports."""
    router = APIRouter(tags=["reports"])

    @router.get("/api/reports")
    def listed(query: Annotated[asks.ReportQuery, Query()]) -> report_models.Reports:
        """Reports, newest first."""
        return report_models.Reports(
            reports=[answers.report(r) for r in reports.newest(query.model, query.limit, query.alarm)]
        )

    @router.post("/api/reports", status_code=202, responses=START_PROBLEMS)
    def start(asked: asks.ReportStart, who: Operator) -> report_models.Report:
        """Compare a span with the version's reference. The same span and kind twice is the same report."""
        return answers.report(reports.start(view.report_request(asked)))

    @router.get("/api/reports/{report}")
    def one(report: ReportId) -> report_models.Report:
        """What became of a report, with the result of every column."""
        return answers.report(reports.get(report))

    return router
