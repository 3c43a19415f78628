"""Drives turns of the loop: look, ask the machine, act, write the stage. One transaction a step."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa

from export.contracts import codec
from export.contracts.errors import Conflict, HardcaseError, PackageError, Unavailable
from export.contracts.manifest import Manifest
from export.contracts.training import PACKAGE_FOLDER, REQUEST_FILE, TrainingRequest
from monitoring import schema as t
from monitoring.api.fields import from_ns, to_text
from monitoring.loop import rows, writes
from monitoring.loop.contracts import Job, JobKind, JobReport, JobState, Stage, Workshop
from monitoring.loop.machine import Act, Facts, Step, step
from monitoring.loop.options import LoopOptions
from monitoring.loop.rows import TurnRow
from monitoring.loop.stations import Stations
from monitoring.store import Store

logger = logging.getLogger(__name__)

GRACE_S = 60.0  # an executor ends what is over its budget; so long after, the driver does
PATIENCE = 30  # unexpected errors of one turn, one after the other, before it is given up
_JOB_STAGES = {Stage.TRAINING, Stage.GATING}


@dataclass(kw_only=True)
class Driver:
    """Moves turns.

    Attributes:
        clock: Seconds since the epoch.
    """

    store: Store
    workshop: Workshop
    stations: Stations
    options: LoopOptions
    clock: Callable[[], float] = time.time
    _errors: dict[str, int] = field(default_factory=dict)  # {turn: unexpected errors in a row}

    def turn(self) -> bool:
        """One step of every turn under way; returns whether one of them can go on at once.

        Raises:
            Exception: one turn met an unexpected error; the others have had their step.
        """
        with self.store.read() as connection:
            found = rows.turns(connection, open_only=True, limit=1_000)
        moved, problem = False, None
        for one in found:
            try:
                moved = self.advance(one) or moved
                self._errors.pop(one.id, None)
            except Unavailable as error:
                logger.warning("training %s of %s waits: %s", one.id, one.model, error)
            except Exception as error:
                problem = error
                self._give_up(one, error)
        if problem is not None:
            raise problem
        return moved

    def advance(self, one: TurnRow) -> bool:
        """One step of one turn; returns whether it has come to another stage."""
        report = self._report(one)
        facts = self._facts(one, report)
        todo = step(facts)
        try:
            after = self._do(one, todo, report)
        except Conflict:
            if todo.act is not Act.ROLL_OUT:
                raise
            return False  # another roll-out of this model is under way: after it
        except Unavailable:
            raise
        except HardcaseError as error:
            logger.warning("training %s of %s ended: %s", one.id, one.model, error.message)
            after = self._write(one, Stage.FAILED, problem=error.message)
        return after is not None and (after.stage is not one.stage or todo.act in (Act.BUILD, Act.ADMIT, Act.RECORD))

    def folder(self, one: TurnRow) -> Path:
        """Where everything of a turn lies."""
        return self.workshop.folder / "trainings" / one.id

    def output(self, one: TurnRow) -> Path:
        """Where its trainer writes."""
        return self.folder(one) / "output"

    def gate_output(self, one: TurnRow) -> Path:
        """Where its gate writes."""
        return self.folder(one) / "gate"

    def _report(self, one: TurnRow) -> JobReport | None:
        if one.stage not in _JOB_STAGES:
            return None
        return self.workshop.jobs.look(one.id if one.stage is Stage.TRAINING else one.gate_job, one.said)

    def _facts(self, one: TurnRow, report: JobReport | None) -> Facts:
        settings, here_s = self.options.of(one.model), self.clock() - one.stage_ns / 1e9
        budget_s = one.budget_s if one.stage is Stage.TRAINING else settings.gate_budget_s
        with self.store.read() as connection:
            judged = self.stations.judged(connection, one) if one.stage is Stage.GATING and one.gate_id else None
            rolled = self.stations.rolled(connection, one) if one.rollout_id else None
        return Facts(
            stage=one.stage,
            trainer=bool(one.trainer),
            approved=bool(one.approved_by),
            cancelled=bool(one.cancel_by),
            approval_over=one.stage is Stage.ASKED and here_s > settings.approval_s,
            built=bool(one.snapshot),
            job=JobState.UNKNOWN if report is None else report.state,
            job_reason="" if report is None else report.reason,
            overdue=report is not None and here_s > budget_s + GRACE_S,
            admitted=bool(one.digest),
            judged=None if judged is None else judged.outcome,
            judged_words="" if judged is None else judged.words,
            rolling=bool(one.rollout_id),
            rollout=None if rolled is None else rolled.end,
            rollout_words="" if rolled is None else rolled.words,
        )

    def _do(self, one: TurnRow, todo: Step, report: JobReport | None) -> TurnRow | None:
        match todo.act:
            case Act.BUILD:
                return self._build(one)
            case Act.TRAIN:
                self.workshop.jobs.start(self._training_job(one))
            case Act.FOLLOW:
                return self._follow(one, todo, report)
            case Act.ADMIT:
                return self._write(one, todo.stage, digest=self._admit(one))
            case Act.JUDGE:
                self.workshop.jobs.start(self._gate_job(one))
            case Act.RECORD:
                return self._record(one, todo, report)
            case Act.ROLL_OUT:
                with self.store.write() as connection:
                    begun = self.stations.roll_out(connection, one, self._now_ns())
                    return writes.move(connection, one, todo.stage, self._now_ns(), rollout_id=begun)
            case Act.STOP_JOB:
                self.workshop.jobs.cancel(one.id)
                self.workshop.jobs.cancel(one.gate_job)
            case Act.STOP_ROLLOUT:
                self.stations.withdraw(one)
            case Act.NONE:
                pass
        if todo.stage is one.stage and not todo.problem:
            return one
        return self._write(one, todo.stage, problem=todo.problem)

    def _build(self, one: TurnRow) -> TurnRow | None:
        built = self.stations.build(one, self._now_ns())
        c = t.trainings.c
        with self.store.read() as connection:
            taken = list(connection.scalars(sa.select(c.version).where(c.model == one.model, c.version != "")))
        version = self.workshop.candidates.next_version(one.model, taken)
        named = {"snapshot": built.id, "snapshot_digest": built.digest, "rows": built.rows}
        return self._write(one, one.stage, version=version, **named)

    def _training_job(self, one: TurnRow) -> Job:
        """The job of a training; all of it follows from the turn's row, so that it is the same when made again."""
        parent = self.workshop.candidates.folder(one.model, one.champion) if one.champion else None
        request = TrainingRequest(
            id=one.id,
            model=one.model,
            version=one.version,
            snapshot=str((self.workshop.datasets / one.snapshot).resolve()),
            snapshot_digest=one.snapshot_digest,
            output=str(self.output(one).resolve()),
            seed=one.seed,
            budget_s=one.budget_s,
            parent=None if parent is None else str(parent.resolve()),
            parent_version=None if parent is None else one.champion,
            parameters=one.parameters,
            reason=one.reason,
            asked_at=to_text(from_ns(one.asked_ns)),
        )
        self.output(one).mkdir(parents=True, exist_ok=True)
        return Job(
            id=one.id,
            kind=JobKind.TRAIN,
            model=one.model,
            request=_write_whole(self.folder(one) / REQUEST_FILE, codec.dumps(request)),
            output=self.output(one),
            budget_s=one.budget_s,
            silence_s=one.silence_s,
            program=one.trainer,
        )

    def _gate_job(self, one: TurnRow) -> Job:
        candidates, output = self.workshop.candidates, self.gate_output(one)
        plan = self.workshop.plans.read(one.model)
        against = plan.champion if plan is not None and plan.champion else one.champion  # who answers by now
        champion = candidates.folder(one.model, against)
        candidate = candidates.folder(one.model, one.version)
        if champion is None or candidate is None:
            gone = against if champion is None else one.version
            raise PackageError(f"version '{gone}' is not in the registry any more")
        output.mkdir(parents=True, exist_ok=True)
        return Job(
            id=one.gate_job,
            kind=JobKind.GATE,
            model=one.model,
            request=self.stations.gate_request(one, champion, candidate, output),
            output=output,
            budget_s=self.options.of(one.model).gate_budget_s,
            silence_s=self.options.of(one.model).gate_budget_s,
        )

    def _follow(self, one: TurnRow, todo: Step, report: JobReport | None) -> TurnRow | None:
        assert report is not None  # the machine follows only what it has seen
        said, where = report.next, report.where
        if not report.events and said == one.said and where == one.place and todo.stage is one.stage:
            return one
        with self.store.write() as connection:
            now_ns = self._now_ns()
            heard = writes.hear(connection, one, report.events, said, where, now_ns)
            if heard is None or todo.stage is one.stage:
                return heard
            return writes.move(connection, heard, todo.stage, now_ns, problem=todo.problem)

    def _record(self, one: TurnRow, todo: Step, report: JobReport | None) -> TurnRow | None:
        """Take over the last of what the gate's job has said, and its verdict."""
        assert report is not None  # it has ended, so it was seen
        with self.store.write() as connection:
            now_ns = self._now_ns()
            heard = writes.hear(connection, one, report.events, report.next, report.where, now_ns)
            if heard is None:
                return None
            said = self.stations.record(connection, heard, self.gate_output(one), now_ns)
            return writes.move(connection, heard, todo.stage, now_ns, gate_id=said.gate_id, gate_words=said.words)

    def _admit(self, one: TurnRow) -> str:
        """Have the package checked and registered; returns its digest."""
        folder = self.output(one) / PACKAGE_FOLDER
        if not folder.is_dir():
            raise PackageError("the trainer left no package")
        manifest = self.workshop.candidates.admit(folder)
        if (manifest.name, manifest.version) != (one.model, one.version):
            raise PackageError(
                f"the package is '{manifest.name}' version '{manifest.version}', asked for was "
                f"'{one.model}' version '{one.version}'"
            )
        if manifest.provenance.dataset_snapshot not in (None, one.snapshot_digest):
            raise PackageError("the package says that it was trained on another snapshot than the one it was given")
        return _digest_of(manifest)

    def _write(self, one: TurnRow, stage: Stage, **values: object) -> TurnRow | None:
        with self.store.write() as connection:
            return writes.move(connection, one, stage, self._now_ns(), **values)

    def _give_up(self, one: TurnRow, error: Exception) -> None:
        """An error nobody expected: tried again, and after many times the turn ends, so that it blocks nothing."""
        self._errors[one.id] = self._errors.get(one.id, 0) + 1
        logger.error("training %s of %s, in stage '%s': %s", one.id, one.model, one.stage.value, error)
        if self._errors[one.id] >= PATIENCE:
            del self._errors[one.id]
            self.workshop.jobs.cancel(one.id)
            self.workshop.jobs.cancel(one.gate_job)
            self._write(one, Stage.FAILED, problem="the monitor could not go on with it; its log says why")

    def _now_ns(self) -> int:
        return int(self.clock() * 1e9)


def _digest_of(manifest: Manifest) -> str:
    """The digest of a package: that of its manifest's canonical bytes."""
    return "sha256:" + hashlib.sha256(codec.dumps(manifest)).hexdigest()


def _write_whole(path: Path, data: bytes) -> Path:
    """The file whole, or as it was before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_bytes(data)
    return temporary.replace(path)
