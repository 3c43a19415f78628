"""The JSON operations about alarms and silences."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request

from monitoring.alarms import queries as q
from monitoring.api import alarm_models as m
from monitoring.api import models
from monitoring.api.alarm_views import AlarmView, event
from monitoring.api.who import Operator, signed
from monitoring.people.audit import AuditKind
from monitoring.people.contracts import Principal
from monitoring.people.office import Office

AlarmId = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="Id of the alarm: 16 hex digits.")]
SilenceId = Annotated[int, Path(ge=1, le=2**31, description="Number of the silence.")]
CHANGE_PROBLEMS: dict[int | str, dict[str, Any]] = {
    403: {"model": models.ErrorBody, "description": "The request comes from another site's page."},
    413: {"model": models.ErrorBody, "description": "The body has no stated length, or is too large."},
}


def alarm_router(alarms: AlarmView, office: Office) -> APIRouter:
    """Alarms, their events, silences."""
    router = APIRouter(tags=["alarms"])

    @router.get("/api/alarms")
    def alarms_list(query: Annotated[m.AlarmQuery, Query()]) -> m.Alarms:
        """Alarms, open ones first, and how every model is watched. Only labels of random audits feed them."""
        return alarms.alarms(query)

    @router.get("/api/alarm-events")
    def alarm_changes(query: Annotated[m.EventQuery, Query()]) -> m.AlarmEvents:
        """Changes of alarms, in order. Who acts on them remembers the last id."""
        found = q.alarm_events(alarms.view.store, after=query.after, limit=query.limit)
        return m.AlarmEvents(events=[event(row) for row in found])

    @router.get("/api/alarms/{alarm}")
    def alarm_detail(alarm: AlarmId) -> m.AlarmDetail:
        """An alarm with its evidence: the path label by label, failing cases, what moved beside it, its history."""
        return alarms.detail(alarm)

    @router.get("/api/silences")
    def silences(query: Annotated[m.SilenceQuery, Query()]) -> m.Silences:
        """Silences, newest first, ended ones included: they are never deleted."""
        return alarms.silences(query)

    @router.post("/api/silences", status_code=201, responses=CHANGE_PROBLEMS)
    def start_silence(asked: m.SilenceStart, who: Operator, request: Request) -> m.Silence:
        """Hold back the pages of a model for a while. Evidence and alarms go on."""
        return begin_silence(alarms, office, asked, who, request.state.address)

    @router.post("/api/silences/{silence}/end", responses=CHANGE_PROBLEMS)
    def end_silence(silence: SilenceId, asked: m.SilenceEnd, who: Operator, request: Request) -> m.Silence:
        """End a silence early."""
        return finish_silence(alarms, office, silence, asked, who, request.state.address)

    return router


def begin_silence(alarms: AlarmView, office: Office, asked: m.SilenceStart, who: Principal, address: str) -> m.Silence:
    """Begin a silence, and tell the audit of it."""
    made = alarms.start_silence(asked.model_copy(update={"author": signed(who, asked.author)}))
    office.note(who, address, AuditKind.SILENCE_STARTED, f"silence {made.id}", model=made.model)
    return made


def finish_silence(
    alarms: AlarmView, office: Office, silence: int, asked: m.SilenceEnd, who: Principal, address: str
) -> m.Silence:
    """End a silence early, and tell the audit of it."""
    made = alarms.end_silence(silence, asked.model_copy(update={"author": signed(who, asked.author)}))
    office.note(who, address, AuditKind.SILENCE_ENDED, f"silence {made.id}", model=made.model)
    return made
