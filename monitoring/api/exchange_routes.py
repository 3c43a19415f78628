"""Cases out as JSON Lines, labels in as JSON Lines or CSV. `hardcase review export` and `import` make other formats."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from monitoring import schema as t
from monitoring.api import exchange_models as m
from monitoring.api.views import View
from monitoring.api.who import Reviewer, Viewer
from monitoring.exchange.contracts import Item
from monitoring.exchange.jsonl import to_plain
from monitoring.exchange.shared import compact
from monitoring.exchange.source import CaseSource, Export
from monitoring.exchange.take_in import ImportResult, take_in
from monitoring.review.ledger import Ledger
from monitoring.store_filters import CaseOrder, case_filter, place_of

NDJSON = "application/x-ndjson"
LINES_AT_ONCE = 200
_BODY = {kind: {"schema": {"type": "string"}} for kind in (NDJSON, "text/csv")}
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
        found = cases.choose(_ids(view, query))
        return StreamingResponse(_lines(cases, found, query.inputs), media_type=NDJSON)

    @router.post("/api/review/import", openapi_extra={"requestBody": {"required": True, "content": _BODY}})
    async def import_labels(request: Request, who: Reviewer, query: Annotated[m.ImportQuery, Query()]) -> m.Imported:
        """Labels of cases: all of them, or, when one has a problem, none."""
        body = await request.body()
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        result = await run_in_threadpool(
            take_in, cases, ledger, who.name, body, as_csv=kind == "text/csv", **query.model_dump()
        )
        return _imported(query, result)

    return router


def _ids(view: View, query: m.ExportQuery) -> list[str]:
    c, b, g = t.cases.c, t.batch_cases.c, t.case_tags.c
    where = case_filter(
        model=query.model,
        version=query.version,
        reason=query.reason,
        state=query.state,
        correct=query.correct,
        min_p_wrong=query.min_score,
        from_ns=None if query.start is None else round(query.start.timestamp() * 1e9),
        to_ns=None if query.end is None else round(query.end.timestamp() * 1e9),
        grouped=query.grouped,
    )
    place = place_of(CaseOrder.QUEUE)
    asked = sa.select(c.id).where(*where).order_by(place.desc(), c.id.desc())
    if query.tag is not None:
        asked = asked.where(c.id.in_(sa.select(g.case_id).where(g.tag == query.tag)))
    if query.batch is not None:
        asked = sa.select(c.id).join(t.batch_cases, b.case_id == c.id).where(*where, b.batch_id == query.batch)
        asked = asked.order_by(b.position)
    with view.store.read() as connection:
        return list(connection.scalars(asked.limit(query.limit)))


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
