"""What is kept, where, and how it is erased: privacy, archive, erasures."""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field, StringConstraints

from export.contracts.errors import NotFound
from export.contracts.privacy import Keep, policy_of
from monitoring.api import fields
from monitoring.api.alarm_routes import CHANGE_PROBLEMS
from monitoring.api.views import View
from monitoring.api.who import Admin, signed
from monitoring.archive.catalogue import list_files
from monitoring.erasure.requests import Erasure, ErasureState, find_erasure, list_erasures, request_erasure
from monitoring.people.audit import AuditKind
from monitoring.people.office import Office

RecordName = Annotated[str, StringConstraints(min_length=1, max_length=128)]
ErasureId = Annotated[str, Path(pattern="^[0-9a-f]{16}$", description="Id of the erasure: 16 hex digits.")]


class ErasureStart(fields.Asked):
    """Which records are to be erased."""

    records: list[Annotated[str, StringConstraints(min_length=1, max_length=128)]] = Field(min_length=1, max_length=200)
    model: fields.Name | None = Field(None, description="Only of this model; default: of every model.")


class ErasureAnswer(BaseModel):
    """What became of an erasure. `counts` says how many copies of each kind went."""

    id: str
    state: ErasureState
    requested_at: fields.Time
    finished_at: fields.Time | None
    author: str
    model: str | None
    records: int
    counts: dict[str, int]
    reason: str | None = Field(description="What it still waits for.")


class Erasures(BaseModel):
    """Erasures, newest first."""

    erasures: list[ErasureAnswer]


class Kept(BaseModel):
    """What is kept of a model's requests."""

    model: str
    keep: Keep
    redact: list[str]
    input_days: float | None
    snapshot_days: float | None
    record_days: float | None
    case_days: float | None
    feedback_days: float | None
    text: str


class Privacy(BaseModel):
    """Of every model."""

    models: list[Kept]


class ArchiveFile(BaseModel):
    """A Parquet file of the archive."""

    path: str
    kind: str
    model: str
    version: str
    rows: int
    erased: int
    bytes: int
    sha256: str
    first: fields.Time
    last: fields.Time


class Archive(BaseModel):
    """The archive's catalogue, oldest records first."""

    files: list[ArchiveFile]


def upkeep_router(view: View, office: Office) -> APIRouter:
    """Privacy, archive, erasures."""
    router = APIRouter(tags=["upkeep"])

    @router.get("/api/privacy")
    def kept() -> Privacy:
        """What is kept of each model's requests."""
        found = [(name, policy_of(view.privacy, name)) for name in view.models()]
        return Privacy(
            models=[
                Kept(
                    model=name,
                    keep=p.keep,
                    redact=list(p.redact),
                    input_days=p.input_days,
                    snapshot_days=p.days_in_snapshots,
                    record_days=p.record_days,
                    case_days=p.case_days,
                    feedback_days=p.feedback_days,
                    text=p.text,
                )
                for name, p in found
            ]
        )

    @router.get("/api/archive")
    def archive(model: Annotated[fields.Name | None, Query()] = None) -> Archive:
        """Files of the archive."""
        with view.store.read() as connection:
            files = list_files(connection, model=model)
        return Archive(
            files=[
                ArchiveFile(
                    path=f.path,
                    kind=f.kind.value,
                    model=f.model,
                    version=f.version,
                    rows=f.rows,
                    erased=f.erased,
                    bytes=f.bytes,
                    sha256=f.sha256,
                    first=fields.from_ns(f.first_ns),
                    last=fields.from_ns(f.last_ns),
                )
                for f in files
            ]
        )

    @router.post("/api/erasures", status_code=202, responses=CHANGE_PROBLEMS)
    def start_erasure(asked: ErasureStart, who: Admin, request: Request) -> ErasureAnswer:
        """Erase records from every copy. It is done when `state` says so."""
        with view.store.write() as connection:
            made = request_erasure(
                connection,
                asked.records,
                model=asked.model,
                author=signed(who, "console and API"),
                now_ns=time.time_ns(),
            )
        office.note(who, request.state.address, AuditKind.ERASURE_ASKED, f"erasure {made.id}", records=made.records)
        return _answer(made)

    @router.get("/api/erasures")
    def erasures() -> Erasures:
        """The newest hundred."""
        with view.store.read() as connection:
            return Erasures(erasures=[_answer(e) for e in list_erasures(connection)])

    @router.get("/api/erasures/{erasure}")
    def one_erasure(erasure: ErasureId) -> ErasureAnswer:
        """How far an erasure is."""
        with view.store.read() as connection:
            found = find_erasure(connection, erasure)
        if found is None:
            raise NotFound("there is no erasure with this id")
        return _answer(found)

    return router


def _answer(e: Erasure) -> ErasureAnswer:
    return ErasureAnswer(
        id=e.id,
        state=e.state,
        requested_at=fields.from_ns(e.requested_ns),
        finished_at=None if e.finished_ns is None else fields.from_ns(e.finished_ns),
        author=e.author,
        model=e.model,
        records=e.records,
        counts=dict(e.counts),
        reason=e.reason,
    )
