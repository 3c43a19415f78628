"""Refits in the database: every decision with its evidence, and how far the labels were looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from export.contracts import codec
from monitoring import schema as t
from monitoring.facts import read_fact, write_fact
from monitoring.score_fits.refit import Decision, Evidence, Fit, FitState
from monitoring.window_rows import NANOSECONDS

_LOOKED = "score_fits"


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredFit:
    """One row of `score_fits`.

    Attributes:
        number: 1, 2, ... within the version.
        until_ns: Labels given before this were used.
        active_ns: Records from this time on are scored with it, if it was adopted.
    """

    model: str
    version: str
    number: int
    until_ns: int
    active_ns: int
    state: FitState
    labels: int
    fit: Fit
    evidence: Evidence


def read_fits(connection: sa.Connection, model: str | None = None, version: str | None = None) -> tuple[StoredFit, ...]:
    """Refits, oldest first."""
    s, v = t.score_fits.c, t.versions.c
    query = sa.select(t.score_fits, v.model.label("model_name"), v.version.label("version_name"))
    query = query.join(t.versions, s.version_id == v.id).order_by(v.model, v.version, s.number)
    if model is not None:
        query = query.where(v.model == model)
    if version is not None:
        query = query.where(v.version == version)
    return tuple(
        StoredFit(
            model=row["model_name"],
            version=row["version_name"],
            number=row["number"],
            until_ns=row["until_ns"],
            active_ns=row["active_ns"],
            state=FitState(row["state"]),
            labels=row["labels"],
            fit=codec.from_plain(Fit, row["model"]),
            evidence=codec.from_plain(Evidence, row["evidence"]),
        )
        for row in connection.execute(query).mappings()
    )


def write_fit(
    connection: sa.Connection, version_id: int, number: int, until_ns: int, active_ns: int, decision: Decision
) -> None:
    """Store a decision."""
    connection.execute(
        t.score_fits.insert().values(
            version_id=version_id,
            number=number,
            until_ns=until_ns,
            active_ns=active_ns,
            state=decision.state.value,
            labels=decision.evidence.labels,
            model=codec.to_plain(decision.fit),
            evidence=codec.to_plain(decision.evidence),
        )
    )


def looked_until(connection: sa.Connection) -> int:
    """Event time (ns) up to which labels were looked at; 0 at the beginning."""
    value: Any = read_fact(connection, _LOOKED)
    return 0 if value is None else int(value["until_ns"])


def set_looked_until(connection: sa.Connection, until_ns: int) -> None:
    """Move it."""
    write_fact(connection, _LOOKED, {"until_ns": until_ns})


def first_label(connection: sa.Connection, after_ns: int, until_ns: int) -> int | None:
    """Time of the first label given in [after, until), or None when there is none."""
    f = t.feedback.c
    given = sa.or_(f.label.is_not(None), f.labels.is_not(None))
    inside = sa.and_(f.time_ns >= after_ns, f.time_ns < until_ns, given)
    found = connection.scalar(sa.select(sa.func.min(f.time_ns)).where(inside))
    return None if found is None else int(found)


def first_window(connection: sa.Connection) -> int:
    """Start (ns) of the first window there is; 0 without any."""
    return int(connection.scalar(sa.select(sa.func.min(t.windows.c.start_s))) or 0) * NANOSECONDS
