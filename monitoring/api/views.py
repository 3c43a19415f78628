"""Store and catalogue rows as the API's answers. The console's pages are made of the same answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from export.contracts.cases import CaseState
from export.contracts.errors import InvalidRequest, NotFound
from export.contracts.manifest import Manifest
from export.contracts.privacy import PrivacyPolicy
from export.contracts.signature import InputSpec
from monitoring.api import answers, asks, fields
from monitoring.api import models as m
from monitoring.baseline import Baseline
from monitoring.baselines import Baselines
from monitoring.catalogue import Catalogue
from monitoring.images import is_picture
from monitoring.options import DriftOptions
from monitoring.people.contracts import ASKING
from monitoring.queries import Totals, models_seen, totals, window_lines
from monitoring.report_shelf import ReportRequest
from monitoring.rows import CaseRow, RecordRow, SignalRow, VersionRow
from monitoring.store import Store

MAX_MANIFESTS = 256  # remembered, so that a page of cases reads each package once
OVERVIEW_WINDOWS = 1440  # newest windows of a model that the overview adds up: a day of minutes


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What every answer is made of."""

    store: Store
    catalogue: Catalogue
    drift_options: DriftOptions = field(default_factory=DriftOptions)
    privacy: tuple[PrivacyPolicy, ...] = ()
    _manifests: dict[tuple[str, str], Manifest] = field(default_factory=dict, compare=False, repr=False)
    _baselines: list[Baselines] = field(default_factory=list, compare=False, repr=False)  # one, made when asked for

    def baseline(self, model: str, version: str) -> Baseline:
        """What the version is compared with; its `problem` says what is missing."""
        if not self._baselines:
            self._baselines.append(Baselines(self.catalogue))
        return self._baselines[0].get(model, version)

    def models(self) -> tuple[str, ...]:
        """Registered models and models of the log that whoever asks may see, sorted."""
        names = {*self.catalogue.models(), *(n for n in models_seen(self.store) if n)}
        return tuple(sorted(name for name in names if ASKING.get().sees(name)))

    def known(self, model: str, version: str | None = None) -> str:
        """The model's name.

        Raises:
            NotFound: neither registered nor in the log.
        """
        if model not in self.models():
            raise NotFound(f"there is no model '{model[:64]}'")
        if version is not None:
            seen = {v.version for v in self.store.versions(model)}
            if version not in {*seen, *self.catalogue.versions(model)}:
                raise NotFound(f"model '{model[:64]}' has no version '{version[:64]}'")
        return model

    def default_version(self, model: str) -> str:
        """The champion, or the version seen last.

        Raises:
            NotFound: the model has neither.
        """
        plan = self.catalogue.plan(model) if model in self.catalogue.models() else None
        if plan is not None and plan.champion is not None:
            return plan.champion
        seen = [v for v in self.store.versions(model) if v.version]
        if not seen:
            raise NotFound(f"model '{model[:64]}' has answered no request yet")
        return max(seen, key=lambda v: v.last_ns).version

    def report_request(self, asked: asks.ReportStart) -> ReportRequest:
        """What to compare.

        Raises:
            NotFound: unknown model or version.
            InvalidRequest: an empty range.
        """
        self.known(asked.model, asked.version)
        if asked.start >= asked.end:
            raise InvalidRequest("from: must be earlier than to")
        version = asked.version or self.default_version(asked.model)
        return ReportRequest(model=asked.model, version=version, start=asked.start, end=asked.end, kind=asked.kind)

    def manifest(self, model: str, version: str) -> Manifest | None:
        """The manifest of a version; None when the registry does not know it. A version never changes."""
        found = self._manifests.get((model, version)) or self.catalogue.manifest(model, version)
        if found is not None:
            if len(self._manifests) >= MAX_MANIFESTS:
                self._manifests.clear()
            self._manifests[model, version] = found
        return found

    def summary(self, model: str) -> m.ModelSummary:
        """A model, its plan, and how its versions did."""
        plan = self.catalogue.plan(model) if model in self.catalogue.models() else None
        seen = {v.version: v for v in self.store.versions(model)}
        registered = self.catalogue.versions(model)
        names = (*registered, *(v for v in seen if v not in registered))
        sums = totals(window_lines(self.store, model, limit=OVERVIEW_WINDOWS))
        cases: dict[str, Counter[CaseState]] = {}
        for _, version, state, _, count in self.store.case_counts(model):
            cases.setdefault(version, Counter())[CaseState(state)] += count
        versions = [
            self._version(model, name, seen.get(name), sums.get(name, Totals()), dict(cases.get(name, {})))
            for name in names
        ]
        return m.ModelSummary(name=model, plan=None if plan is None else m.Plan.model_validate(plan), versions=versions)

    def _version(
        self, model: str, name: str, row: VersionRow | None, quality: Totals, cases: dict[CaseState, int]
    ) -> m.Version:
        manifest = self.manifest(model, name)
        signals = self.store.latest_signals(model, name) if row is not None else ()
        return m.Version(
            version=name,
            digest=row.digest if row is not None else None,
            task=None if manifest is None else manifest.task.kind.value,
            registered=manifest is not None,
            first_at=None if row is None else fields.from_ns(row.first_ns),
            last_at=None if row is None else fields.from_ns(row.last_ns),
            quality=m.Quality.model_validate(quality),
            signals_exceeded=sum(s.exceeded for s in signals),
            signals=sum(s.value is not None for s in signals),
            cases=cases,
        )

    def windows(self, model: str, query: asks.WindowQuery) -> list[m.Window]:
        """Windows of a model."""
        lines = window_lines(
            self.store,
            model,
            version=query.version,
            variant=query.variant,
            from_s=None if query.start is None else int(query.start.timestamp()),
            to_s=None if query.end is None else int(query.end.timestamp()),
            limit=query.limit,
        )
        return [
            m.Window(
                start=fields.from_ns(line.start_s * 1_000_000_000),
                accuracy=line.accuracy,
                audit_accuracy=line.audit_accuracy,
                **{n: getattr(line, n) for n in line.__slots__ if n in m.Window.model_fields},
            )
            for line in lines
        ]

    def drift(self, model: str, query: asks.DriftQuery) -> list[m.Signal]:
        """Signals of the newest window of each version, or of a range."""
        rows: tuple[SignalRow, ...]
        if query.start is None and query.end is None:
            versions = [query.version] if query.version else [v.version for v in self.store.versions(model)]
            latest = [s for v in versions for s in self.store.latest_signals(model, v, query.scope)]
            rows = tuple(s for s in latest if query.exceeded in (None, s.exceeded))[: query.limit]
        else:
            rows = self.store.signals(
                model,
                version=query.version,
                scope=query.scope,
                from_s=None if query.start is None else int(query.start.timestamp()),
                to_s=None if query.end is None else int(query.end.timestamp()),
                exceeded=query.exceeded,
                limit=query.limit,
            )
        return [answers.signal(row) for row in rows]

    def picture_of(self, model: str, version: str, name: str | None = None) -> InputSpec | None:
        """The first input that can be drawn, or the one called `name` if it can be drawn."""
        manifest = self.manifest(model, version)
        specs = manifest.signature.inputs if manifest is not None else ()
        return next((spec for spec in specs if is_picture(spec) and name in (None, spec.name)), None)

    def case(self, row: CaseRow) -> m.Case:
        """A case as listed."""
        return m.Case.model_validate(self._case_fields(row))

    def case_detail(self, identity: str) -> m.CaseDetail:
        """A case with everything that is known.

        Raises:
            NotFound: there is none.
        """
        row = self.case_row(identity)
        manifest = self.manifest(row.model, row.version)
        tensors = [
            m.Tensor.model_validate(
                {
                    "direction": t.direction,
                    "name": t.name,
                    "datatype": t.datatype,
                    "shape": list(t.shape),
                    "size_bytes": len(t.data),
                }
            )
            for t in self.store.case_tensors(row.id)
        ]
        extra = {
            "task": None if manifest is None else manifest.task.kind.value,
            "truth": answers.row_truth(row.label, row.row),
            "class_names": list(manifest.task.class_names) if manifest is not None else [],
            "tensors": tensors,
            "feedback": self._feedback(row, () if manifest is None else manifest.task.class_names),
        }
        fields = (
            "answer",
            "scores",
            "probabilities",
            "timing_us",
            "params",
            "trace_id",
            "tags",
            "comment",
            "input_state",
        )
        return m.CaseDetail.model_validate(self._case_fields(row) | {n: getattr(row, n) for n in fields} | extra)

    def case_row(self, identity: str) -> CaseRow:
        """A case as stored.

        Raises:
            NotFound: there is none.
        """
        row = self.store.case(identity)
        if row is None or not ASKING.get().sees(row.model):
            raise NotFound("there is no case with this id")
        return row

    def _case_fields(self, row: CaseRow) -> dict[str, object]:
        kept = row.input_state == "kept"
        shown = kept or row.input_state == "thumbnail"
        drawable = shown and self.picture_of(row.model, row.version) is not None
        same = (n for n in m.Case.model_fields if n not in ("time", "input", "picture", "standing"))
        return {n: getattr(row, n) for n in same} | {
            "standing": answers.standing_answer(row.standing),
            "time": fields.from_ns(row.time_ns),
            "input": f"/api/cases/{row.id}/input" if kept else None,
            "picture": f"/api/cases/{row.id}/input.png" if drawable else None,
        }

    def record(self, row: RecordRow) -> m.Record:
        """What is known of a record."""
        manifest = self.manifest(row.model, row.version)
        same = (n for n in m.Record.model_fields if n not in ("time", "case", "feedback"))
        return m.Record.model_validate(
            {n: getattr(row, n) for n in same}
            | {
                "time": fields.from_ns(row.time_ns),
                "case": row.case_id if row.has_case else None,
                "feedback": self._feedback(row, () if manifest is None else manifest.task.class_names),
            }
        )

    def _feedback(self, row: CaseRow | RecordRow, names: Sequence[str]) -> list[m.Feedback]:
        return answers.feedback(self.store.feedback(row.model, row.record_id, row.time_ns), row.time_ns, names)

    def accounting(self) -> m.Accounting:
        """Conservation of every source."""
        lines = [m.AccountingLine.model_validate(row) for row in self.store.accounting()]
        return m.Accounting(
            lines=lines,
            requests=sum(a.requests for a in lines),
            captured=sum(a.captured for a in lines),
            ingested=sum(a.ingested for a in lines),
            balanced=all(a.unexplained == 0 for a in lines),
            dead_letters=self.store.dead_letter_counts(),
        )
