"""The JSON operations about alarms and silences."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from monitoring.alarms import queries as q
from monitoring.api import alarm_models as m
from monitoring.api import models
from monitoring.api.alarm_views import AlarmView, event

AlarmId = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="Id of the alarm: 16 hex digits.")]
SilenceId = Annotated[int, Path(ge=1, le=2**31, description="Number of the silence.")]
CHANGE_PROBLEMS: dict[int | str, dict[str, Any]] = {
    403: {"model": models.ErrorBody, "description": "The request comes from another site's page."},
    413: {"model": models.ErrorBody, "description": "The body has no stated length, or is too large."},
}


def alarm_router(alarms: AlarmView) -> APIRouter:
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
    def start_silence(asked: m.SilenceStart) -> m.Silence:
        """Hold back the pages of a model for a while. Evidence and alarms go on."""
        return alarms.start_silence(asked)

    @router.post("/api/silences/{silence}/end", responses=CHANGE_PROBLEMS)
    def end_silence(silence: SilenceId, asked: m.SilenceEnd) -> m.Silence:
        """End a silence early."""
        return alarms.end_silence(silence, asked)

    return router
