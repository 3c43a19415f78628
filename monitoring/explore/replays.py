"""Stored cases sent to versions again, so that any two that are loaded can be compared on the same inputs.

A replay is a row of `replays`: whoever finds one that is not done goes on with it, and an answer that is there already
is not asked for again, so a monitor that is killed loses nothing. The service sees a bounded, slow stream of requests
with the parameter `origin=compare`, which count as no traffic.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from export.contracts.errors import Conflict, HardcaseError, InvalidRequest, NotFound, Overloaded
from export.contracts.manifest import Manifest
from export.contracts.signature import OutputRole
from monitoring import schema as t
from monitoring.baselines import Baselines
from monitoring.catalogue import Catalogue
from monitoring.explore.kept import kept_row
from monitoring.explore.opinion import opinions
from monitoring.explore.serving_client import ServingClient
from monitoring.options import CaseOptions
from monitoring.store import Store

logger = logging.getLogger(__name__)
AT_ONCE = 20  # answers a transaction
WAITING = 10  # replays that may wait


class ReplayState(StrEnum):
    """Where a replay stands."""

    QUEUED = "queued"  # begins when those before it are done
    RUNNING = "running"
    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"  # the service was not there


@dataclass(frozen=True, kw_only=True, slots=True)
class Replay:
    """A replay. Columns as in `monitoring.schema_explore.replays`."""

    id: int
    model: str
    versions: list[str]
    chosen: dict[str, Any]
    actor: str
    state: str
    created_ns: int
    finished_ns: int | None
    total: int
    done: int
    failed: dict[str, int]
    cancel: bool


class ReplayService:
    """Starts, follows and stops replays. One runs at a time, in a thread that ends when there is nothing to do."""

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        baselines: Baselines,
        serving: ServingClient,
        cases: CaseOptions,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._store, self._catalogue, self._baselines = store, catalogue, baselines
        self._serving, self._cases, self._clock_ns = serving, cases, clock_ns
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self, model: str, versions: Sequence[str], cases: Sequence[str] | None, actor: str) -> Replay:
        """Send cases of a model to versions of it.

        Args:
            model: Whose cases.
            versions: Which are asked; a case's own version is not asked again.
            cases: Ids; None are the newest.
            actor: Who asks.

        Raises:
            InvalidRequest: there is nothing to send.
            Overloaded: too many wait.
        """
        chosen = self._choose(model, cases)
        questions = [(c, v) for c, own in chosen for v in dict.fromkeys(versions) if v != own]
        if not questions:
            raise InvalidRequest("cases: none of them has an input that could be sent to another version")
        p = t.replays.c
        with self._store.write() as connection:
            waiting = connection.scalar(
                sa.select(sa.func.count()).where(p.state.in_((ReplayState.QUEUED, ReplayState.RUNNING)))
            )
            if (waiting or 0) >= WAITING:
                raise Overloaded("too many comparisons wait already", retry_after_s=30)
            values = {
                "model": model,
                "versions": list(versions),
                "chosen": {"cases": [c for c, _ in chosen]},
                "actor": actor,
                "state": ReplayState.QUEUED.value,
                "created_ns": self._clock_ns(),
                "total": len(questions),
                "done": 0,
                "failed": {},
                "cancel": False,
            }
            number = connection.execute(t.replays.insert().values(**values).returning(p.id)).scalar_one()
        self.wake()
        return self.get(number)

    def get(self, number: int) -> Replay:
        """One replay.

        Raises:
            NotFound: there is none.
        """
        with self._store.read() as connection:
            row = connection.execute(sa.select(t.replays).where(t.replays.c.id == number)).mappings().one_or_none()
        if row is None:
            raise NotFound("there is no comparison run with this number")
        return Replay(**row)

    def newest(self, model: str, limit: int = 20) -> list[Replay]:
        """Replays of a model, newest first."""
        p = t.replays.c
        query = sa.select(t.replays).where(p.model == model).order_by(p.id.desc()).limit(limit)
        with self._store.read() as connection:
            return [Replay(**row) for row in connection.execute(query).mappings()]

    def cancel(self, number: int) -> Replay:
        """Ask a replay to end; what was answered stays.

        Raises:
            Conflict: it has ended.
        """
        if self.get(number).finished_ns is not None:
            raise Conflict("this comparison run has ended already")
        self._set(number, cancel=True)
        self.wake()
        return self.get(number)

    def wake(self) -> None:
        """Go on with what is not done; a second call changes nothing."""
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="hardcase-replay", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while (replay := self._next()) is not None:
            try:
                self._run(replay)
            except Exception:
                logger.exception("comparison run %d failed", replay.id)
                self._set(replay.id, state=ReplayState.FAILED.value, finished_ns=self._clock_ns())

    def _next(self) -> Replay | None:
        p = t.replays.c
        query = sa.select(t.replays).where(p.finished_ns.is_(None)).order_by(p.id).limit(1)
        with self._store.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        return None if row is None else Replay(**row)

    def _run(self, replay: Replay) -> None:
        self._set(replay.id, state=ReplayState.RUNNING.value)
        failed: Counter[str] = Counter()
        made: list[dict[str, Any]] = []
        done, state = 0, ReplayState.DONE
        pause = 1.0 / self._serving.options.replay_rows_per_s
        known = self._answered(replay)
        for case, own in self._choose(replay.model, replay.chosen["cases"]):
            for version in replay.versions:
                if version == own:
                    continue
                if (case, version) not in known:
                    began = time.monotonic()
                    answer = self._ask(replay.model, version, case)
                    made.append(answer | {"case_id": case, "version": version, "time_ns": self._clock_ns()})
                    if answer.get("error"):
                        failed[answer["error"]] += 1
                    time.sleep(max(0.0, pause - (time.monotonic() - began)))
                done += 1
                if len(made) >= AT_ONCE:
                    self._write(replay.id, made, done, failed)
                    made = []
                    if self.get(replay.id).cancel:
                        state = ReplayState.CANCELLED
                        break
                    if sum(failed.values()) >= AT_ONCE and sum(failed.values()) == done:
                        state = ReplayState.FAILED  # nothing at all is answered: no use in going on
                        break
            if state is not ReplayState.DONE:
                break
        self._write(replay.id, made, done, failed)
        if self.get(replay.id).cancel:
            state = ReplayState.CANCELLED
        self._set(replay.id, state=state.value, finished_ns=self._clock_ns())

    def _ask(self, model: str, version: str, case: str) -> dict[str, Any]:
        """The columns of `case_answers` that the version's answer fills, or `error`."""
        manifest = self._catalogue.manifest(model, version)
        if manifest is None:
            return {"error": "the registry does not know this version"}
        inputs = kept_row(self._store, case, manifest.signature)
        if inputs is None:
            return {"error": "the case's input is not kept, or does not fit this version"}
        try:
            reply = self._serving.infer(model, version, inputs, _wanted(manifest), "compare")
            row = opinions(self._baselines.get(model, version), inputs, reply, self._cases)[0]
        except HardcaseError as error:
            return {"error": error.message[:300]}
        except (ValueError, IndexError):
            return {"error": "the answer does not fit the version's signature"}
        return {
            "predicted": row.shown.predicted,
            "confidence": row.confidence,
            "p_wrong": row.p_wrong,
            "value": row.value,
            "answer": row.shown.answer,
        }

    def _choose(self, model: str, cases: Sequence[str] | None) -> list[tuple[str, str]]:
        """(id, own version) of cases whose input is kept."""
        c = t.cases.c
        most = self._serving.options.replay_cases
        query = sa.select(c.id, c.version).where(c.model == model, c.input_state == "kept")
        query = query.order_by(c.time_ns.desc(), c.id)
        with self._store.read() as connection:
            if cases is None:
                return [(row.id, row.version) for row in connection.execute(query.limit(most))]
            found: list[tuple[str, str]] = []
            for start in range(0, min(len(cases), most), 400):
                chunk = list(cases[start : min(start + 400, most)])
                found += [(row.id, row.version) for row in connection.execute(query.where(c.id.in_(chunk)))]
            return found

    def _answered(self, replay: Replay) -> set[tuple[str, str]]:
        a = t.case_answers.c
        query = sa.select(a.case_id, a.version).where(a.version.in_(replay.versions), a.error.is_(None))
        with self._store.read() as connection:
            return {(row.case_id, row.version) for row in connection.execute(query)}

    def _write(self, number: int, made: list[dict[str, Any]], done: int, failed: Counter[str]) -> None:
        a = t.case_answers.c
        empty = dict.fromkeys(("predicted", "confidence", "p_wrong", "value", "answer", "error"))
        with self._store.write() as connection:
            kept = set(
                connection.scalars(sa.select(t.cases.c.id).where(t.cases.c.id.in_([m["case_id"] for m in made])))
            )
            for row in made:
                if row["case_id"] in kept:  # retention may have taken it meanwhile
                    connection.execute(
                        t.case_answers.delete().where(a.case_id == row["case_id"], a.version == row["version"])
                    )
                    connection.execute(t.case_answers.insert().values(**(empty | row)))
            connection.execute(
                t.replays.update().where(t.replays.c.id == number).values(done=done, failed=dict(failed))
            )

    def _set(self, number: int, **values: Any) -> None:
        with self._store.write() as connection:
            connection.execute(t.replays.update().where(t.replays.c.id == number).values(**values))


def _wanted(manifest: Manifest) -> list[str]:
    return [o.name for o in manifest.signature.outputs if o.role is not OutputRole.INTERNAL]
