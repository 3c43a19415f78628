"""Cases out as JSON Lines, labels in as JSON Lines or CSV. `hardcase review export` and `import` make other formats."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from monitoring.api import exchange_models as m
from monitoring.api.batch_routes import CHANGE_PROBLEMS
from monitoring.api.views import View
from monitoring.api.who import Reviewer, Viewer
from monitoring.exchange.contracts import Item
from monitoring.exchange.jsonl import to_plain
from monitoring.exchange.shared import compact
from monitoring.exchange.source import CaseSource, Export
from monitoring.exchange.take_in import ImportResult, take_in
from monitoring.review.ledger import Ledger

NDJSON = "application/x-ndjson"
LINES_AT_ONCE = 200
_BODY: dict[str, Any] = {kind: {"schema": {}} for kind in (NDJSON, "text/csv")}
SHOWN_PROBLEMS = 1000


def exchange_router(view: View, ledger: Ledger) -> APIRouter:
    """Export and import."""
    router = APIRouter(tags=["review"])
    cases = CaseSource(store=view.store, catalogue=view.catalogue)

    @router.get(
        "/api/review/export",
        response_class=Response,
        responses={200: {"content": {NDJSON: {"schema": {"type": "string"}}}}},
    )
    def export_cases(who: Viewer, query: Annotated[m.ExportQuery, Query()]) -> Response:
        """Cases as JSON Lines: a line with model, task, classes and count, then one for each case."""
        found = cases.choose(cases.find(batch=query.batch, tag=query.tag, limit=query.limit, **_filter(query)))
        return StreamingResponse(_lines(cases, found, query.inputs), media_type=NDJSON)

    @router.post(
        "/api/review/import",
        responses=CHANGE_PROBLEMS,
        openapi_extra={"requestBody": {"required": True, "content": _BODY}},
    )
    async def import_labels(request: Request, who: Reviewer, query: Annotated[m.ImportQuery, Query()]) -> m.Imported:
        """Labels of cases: all of them, or, when one has a problem, none."""
        body = await request.body()
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        result = await run_in_threadpool(
            take_in, cases, ledger, who.name, body, as_csv=kind == "text/csv", **query.model_dump()
        )
        return _imported(query, result)

    return router


def _filter(query: m.ExportQuery) -> dict[str, Any]:
    same = ("model", "version", "reason", "state", "correct", "grouped")
    return {name: getattr(query, name) for name in same} | {
        "min_p_wrong": query.min_score,
        "from_ns": None if query.start is None else round(query.start.timestamp() * 1e9),
        "to_ns": None if query.end is None else round(query.end.timestamp() * 1e9),
    }


def _lines(cases: CaseSource, found: Export, inputs: bool) -> Iterator[str]:
    head = m.ExportHeader(
        model=found.model, task=found.header.task, classes=list(found.header.classes), count=len(found.ids)
    )
    yield head.model_dump_json() + "\n"
    waiting: list[str] = []
    for item in cases.items(found.ids, inputs=inputs):
        waiting.append(_line(item, inputs))
        if len(waiting) == LINES_AT_ONCE:
            yield "".join(waiting)
            waiting = []
    yield "".join(waiting)


def _line(item: Item, inputs: bool) -> str:
    return compact(to_plain(item, inline=inputs)) + "\n"


def _imported(query: m.ImportQuery, result: ImportResult) -> m.Imported:
    shown = [m.ImportProblem(where=p.where, text=p.text) for p in result.problems[:SHOWN_PROBLEMS]]
    return m.Imported(
        dry_run=query.dry_run,
        labels=result.labels,
        changed=result.changed,
        skipped=dict(result.skipped),
        acts=list(result.acts),
        problem_count=len(result.problems),
        problems=shown,
    )
