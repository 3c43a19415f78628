"""Routes of the pages: make the context, answer it as HTML or, with `?format=json`, as it is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import jinja2
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

from export.contracts.codec import to_plain
from export.contracts.errors import InvalidRequest, NotFound
from monitoring.api import asks, fields
from monitoring.api.alarm_models import SilenceEnd, SilenceStart
from monitoring.api.alarm_routes import AlarmId, SilenceId, begin_silence, finish_silence
from monitoring.api.alarm_views import AlarmView
from monitoring.api.finding_views import Findings
from monitoring.api.options import ConsoleOptions, MonitorView
from monitoring.api.routes import CaseId, Model, RecordId, ReportId
from monitoring.api.views import View
from monitoring.api.who import Operator, Viewer
from monitoring.console import charts, parts, words
from monitoring.console import contexts as c
from monitoring.console.build import Builder
from monitoring.console.build_alarms import alarm_page, alarms_page
from monitoring.console.build_case import case_page
from monitoring.console.build_drift import drift_page
from monitoring.console.build_pads import json_text
from monitoring.console.build_reports import report_line, report_page
from monitoring.people.contracts import ASKING, Role
from monitoring.people.office import Office
from monitoring.reports import ReportService

HERE = Path(__file__).parent
NO_SHELL = parts.Shell(section="", ready=True, health="", open_cases=0)


@lru_cache(maxsize=1)
def templates() -> jinja2.Environment:
    """The template environment: everything is escaped, an undefined name is a fault."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = ("reason", "reason_text", "state", "plain", "percent", "figure", "duration", "size", "clock", "short")
    environment.filters.update({name: getattr(words, name) for name in names})
    environment.filters["points"] = words.points
    environment.filters["json_text"] = json_text
    environment.globals.update(draw=charts.draw, number=charts.number, may=may)
    return environment


def may(role: str) -> bool:
    """Whether whoever asks may do what this role may: templates leave out what they may not."""
    return ASKING.get().role.covers(Role(role))


def render(request: Request, template: str, page: Any, status: int = 200) -> Response:
    """A page as HTML, or its context as JSON."""
    if request.query_params.get("format") == "json":
        return JSONResponse(to_plain(page), status)
    return HTMLResponse(
        templates().get_template(template).render(page=page, shell=getattr(page, "shell", None)), status
    )


def error_page(request: Request, status: int, text: str) -> Response:
    """An error for a person."""
    return render(request, "error.html", c.ErrorPage(shell=NO_SHELL, status=status, text=text), status)


def page_router(
    view: View,
    monitor: MonitorView,
    reports: ReportService,
    options: ConsoleOptions,
    clock: Callable[[], datetime],
    alarms: AlarmView,
    findings: Findings,
    office: Office,
) -> APIRouter:
    """All pages. They are no part of the API's contract, so they are not in its document."""
    router = APIRouter(include_in_schema=False)
    builder = Builder(view=view, monitor=monitor, options=options)

    @router.get("/models/{model}")
    def model_page(request: Request, model: Model, version: fields.Name | None = None) -> Response:
        with view.store.together():
            page = builder.model(model, version)
        return render(request, "model.html", page)

    @router.get("/models/{model}/drift")
    def drift(request: Request, model: Model) -> Response:
        given = {k: v for k, v in request.query_params.items() if v and k not in ("format", "span")}
        asked = fields.checked(asks.MoveQuery, given)
        span = request.query_params.get("span") or ("all" if asked.start or asked.end else "24h")
        return render(request, "drift.html", drift_page(builder, model, asked, span))

    @router.get("/alarms")
    def alarm_list(request: Request, model: fields.Name | None = None) -> Response:
        return render(request, "alarms.html", alarms_page(builder, alarms, model))

    @router.get("/alarms/{alarm}")
    def one_alarm(request: Request, alarm: AlarmId) -> Response:
        return render(request, "alarm.html", alarm_page(builder, alarms, alarm, reports.newest(alarm=alarm)))

    @router.post("/silences")
    async def start_silence(request: Request, who: Operator) -> Response:
        given = {name: value for name, value in (await form_of(request)).items() if value}
        asked = fields.checked(SilenceStart, given)
        made = await run_in_threadpool(begin_silence, alarms, office, asked, who, request.state.address)
        return RedirectResponse(f"/alarms?model={made.model}", status_code=303)

    @router.post("/silences/{silence}/end")
    async def end_silence(request: Request, silence: SilenceId, who: Operator) -> Response:
        asked = fields.checked(SilenceEnd, await form_of(request))
        made = await run_in_threadpool(finish_silence, alarms, office, silence, asked, who, request.state.address)
        return RedirectResponse(f"/alarms?model={made.model}", status_code=303)

    @router.get("/cases/{case}")
    def one_case(request: Request, case: CaseId, who: Viewer) -> Response:
        with builder.view.store.together():
            page = case_page(builder, findings, case, who)
        return render(request, "case.html", page)

    @router.get("/records/{record:path}")
    def one_record(record: RecordId) -> Response:
        """Where links from charts lead: the case of a record, or what is known of one that is no case."""
        found = view.store.records(record, None)
        if not found:
            raise NotFound("there is no record with this id, or the monitor has not read it yet, or no longer has it")
        row = next((r for r in found if r.has_case), None)
        to = f"/cases/{row.case_id}" if row is not None else f"/api/records/{quote(record, safe='')}"
        return RedirectResponse(to, status_code=302)

    @router.get("/reports")
    def report_list(request: Request) -> Response:
        lines = tuple(report_line(r) for r in reports.newest(limit=100))
        return render(request, "reports.html", c.ReportsPage(shell=builder.shell("reports"), reports=lines))

    @router.post("/reports")
    async def start_report(request: Request, who: Operator) -> Response:
        asked = fields.checked(asks.ReportStart, await form_of(request))
        report = reports.start(view.report_request(asked))
        return RedirectResponse(f"/reports/{report.id}", status_code=303)

    @router.get("/reports/{report}")
    def one_report(request: Request, report: ReportId) -> Response:
        return render(request, "report.html", report_page(builder.shell("reports"), reports.get(report)))

    return router


async def form_of(request: Request) -> dict[str, str]:
    """A small URL-encoded form; the guard has bounded the body."""
    if request.headers.get("content-type", "").split(";")[0] != "application/x-www-form-urlencoded":
        raise InvalidRequest("the form must be sent as application/x-www-form-urlencoded")
    try:
        fields = parse_qs((await request.body()).decode(), max_num_fields=32, keep_blank_values=True)
    except ValueError:
        raise InvalidRequest("the form is not readable") from None
    return {name: values[0] for name, values in fields.items()}


def local(target: str) -> str:
    """An address of this console, whatever was asked for: never another site's."""
    safe = target.startswith("/") and not target.startswith("//") and "\\" not in target
    return target if safe and target.isprintable() else "/"
