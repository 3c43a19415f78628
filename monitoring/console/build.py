"""From the API's answers to what the pages show. Nothing here formats HTML; nothing here is asked twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from export.contracts.cases import CaseState
from export.contracts.privacy import policy_of
from monitoring.alarms.queries import firing_alarms
from monitoring.api import asks, fields
from monitoring.api import models as m
from monitoring.api.options import ConsoleOptions, MonitorView
from monitoring.api.routes import readiness
from monitoring.api.views import View
from monitoring.console import contexts as c
from monitoring.console import parts, words
from monitoring.console.build_accuracy import accuracy_block
from monitoring.console.build_fits import fits_block
from monitoring.console.panels import model_panels, traffic_panel
from monitoring.people.contracts import ASKING, LOCAL, Role
from monitoring.queries import WindowLine, window_lines
from monitoring.rows import CaseRow
from monitoring.store import CaseOrder

CHART_WINDOWS = 240
STRIP = 12  # cases in a strip


@dataclass(frozen=True, kw_only=True, slots=True)
class Builder:
    """Makes the contexts of the pages about models; see `build_cases` for the others."""

    view: View
    monitor: MonitorView
    options: ConsoleOptions

    def shell(self, section: str) -> parts.Shell:
        """Navigation and health line."""
        health = readiness(self.monitor.health(), self.options)
        behind = "up to date" if health.lag_s < 2 else f"{health.lag_s:.0f} s behind"
        waiting = sum(n for _, _, state, _, n in self.view.store.case_counts() if state == CaseState.OPEN)
        return parts.Shell(
            section=section,
            ready=health.ready,
            health=behind if health.ready else health.reasons[0],
            open_cases=waiting,
            firing=firing_alarms(self.view.store),
            who="" if (asking := ASKING.get()) == LOCAL else asking.name,
            admin=asking.role.covers(Role.ADMIN),
        )

    def model(self, name: str, version: str | None) -> c.ModelPage:
        """One version of a model over time."""
        summary = self.view.summary(self.view.known(name, version))
        lines = _version_lines(summary)
        chosen = version or _default_version(lines)
        windows = window_lines(self.view.store, name, version=chosen, limit=CHART_WINDOWS) if chosen else ()
        signals = (
            self.view.drift(name, asks.DriftQuery.model_validate({"version": chosen, "limit": 2000})) if chosen else []
        )
        table = signal_lines(signals)
        panels = model_panels(self.view.store, name, chosen, windows, table[:5]) if chosen else ()
        start, end = _range(windows)
        return c.ModelPage(
            shell=self.shell("overview"),
            model=name,
            task=next((v.task for v in summary.versions if v.task), None),
            version=chosen,
            versions=lines,
            tabs=tuple(
                parts.Choice(
                    value=line.version,
                    label=line.version,
                    chosen=line.version == chosen,
                    href=f"/models/{name}?version={line.version}",
                )
                for line in lines
            ),
            accuracy=accuracy_block(self.view.store, name, chosen) if chosen else None,
            fits=fits_block(self.view, name, chosen) if chosen else None,
            panels=panels,
            signals=table,
            signals_at=fields.to_text(signals[0].start) if signals else None,
            worst=self.worst(name, chosen),
            report_from=start,
            report_to=end,
            kept=policy_of(self.view.privacy, name).text,
        )

    def worst(self, model: str | None, version: str | None, limit: int = STRIP) -> tuple[parts.CaseCard, ...]:
        """The scored cases on top of the queue; failed requests stand before them there, and have no score."""
        page = self.view.store.cases(
            model=model, version=version, state=CaseState.OPEN, min_p_wrong=0.0, order=CaseOrder.RANK, limit=10 * limit
        )
        # The same input sent again has the same scores to the last digit; a strip of one picture shows nothing.
        distinct = {(row.model, row.version, row.predicted, row.p_wrong): row for row in reversed(page.cases)}
        rows = sorted(distinct.values(), key=lambda row: (-row.rank, row.id))
        return tuple(self.card(row) for row in rows[:limit])

    def card(self, row: CaseRow, stands_for: int = 1) -> parts.CaseCard:
        """A case for a grid."""
        case = self.view.case(row)
        manifest = self.view.manifest(row.model, row.version)
        names = manifest.task.class_names if manifest is not None else ()
        return parts.CaseCard(
            id=row.id,
            model=row.model,
            version=row.version,
            picture=case.picture,
            predicted=row.predicted_label if row.predicted_label is not None else words.label(row.predicted, names),
            label=words.label(row.label, names),
            correct=row.correct,
            confidence=row.confidence,
            p_wrong=row.p_wrong,
            reasons=row.reasons,
            state=row.state,
            outcome=row.outcome,
            at=fields.to_text(case.time),
            record_id=row.record_id,
            stands_for=stands_for,
        )

    def balance(self) -> parts.Balance:
        """The conservation line over all sources."""
        rows = self.view.store.accounting()
        return parts.Balance(
            requests=sum(r.requests for r in rows),
            captured=sum(r.captured for r in rows),
            sampled_out=sum(r.sampled_out for r in rows),
            dropped=sum(sum(r.dropped.values()) for r in rows),
            lost=sum(r.lost for r in rows),
            corrupt=sum(r.corrupt for r in rows),
            unexplained=sum(r.unexplained for r in rows),
            ingested=sum(r.ingested for r in rows),
            dead_letters=sum(self.view.store.dead_letter_counts().values()),
            balanced=all(r.unexplained == 0 for r in rows),
        )

    def events(self, model: str | None, limit: int) -> tuple[parts.EventLine, ...]:
        """What happened to the replicas lately."""
        return tuple(
            parts.EventLine(
                at=fields.to_text(fields.from_ns(e.time_ns)),
                kind=words.plain(e.kind),
                model=e.model,
                version=e.version,
                detail=", ".join(f"{k} {v}" for k, v in sorted(e.detail.items()) if v not in (None, ""))[:200],
            )
            for e in self.view.store.events(model, limit)
        )

    def model_card(self, name: str) -> parts.ModelCard:
        """A model on the overview."""
        summary = self.view.summary(name)
        windows = window_lines(self.view.store, name, limit=CHART_WINDOWS)
        lines = _version_lines(summary)
        chosen = _default_version(lines)
        return parts.ModelCard(
            name=name,
            task=next((v.task for v in summary.versions if v.task), None),
            versions=lines,
            traffic=traffic_panel(windows) if windows else None,
            worst=self.worst(name, None, 8),
            accuracy=accuracy_block(self.view.store, name, chosen) if chosen else None,
            accuracy_of=chosen or "",
            rollout=_rollout(summary.plan),
            rollout_at=None if summary.plan is None or not summary.plan.changed_at else str(summary.plan.changed_at),
        )


def signal_lines(signals: Sequence[m.Signal]) -> tuple[parts.SignalLine, ...]:
    """Signals for the table: the largest in units of their threshold first, the undefined last."""
    lines = [
        parts.SignalLine(
            kind=s.kind,
            method=s.method,
            subject=s.subject,
            state=s.state,
            value=s.value,
            threshold=s.threshold,
            threshold_source=s.threshold_source,
            ratio=s.value / s.threshold if s.value is not None and s.threshold else None,
            exceeded=s.exceeded,
            rows=s.rows,
        )
        for s in signals
    ]
    return tuple(sorted(lines, key=lambda s: (s.ratio is None, -(s.ratio or 0.0), s.method, s.subject)))


def _version_lines(summary: m.ModelSummary) -> tuple[parts.VersionLine, ...]:
    return tuple(
        parts.VersionLine(
            version=v.version,
            role=_role(summary.plan, v.version),
            registered=v.registered,
            requests=v.quality.requests,
            failed=v.quality.failed,
            accuracy=v.quality.accuracy,
            labelled=v.quality.labelled,
            audit_accuracy=v.quality.audit_accuracy,
            audit_labelled=v.quality.audit_labelled,
            estimated_accuracy=v.quality.estimated_accuracy,
            signals_exceeded=v.signals_exceeded,
            signals=v.signals,
            waiting=v.cases.get(CaseState.OPEN, 0),
            last_at=None if v.last_at is None else fields.to_text(v.last_at),
        )
        for v in reversed(summary.versions)
        if v.version
    )


def _role(plan: m.Plan | None, version: str) -> str:
    if plan is None:
        return ""
    if plan.champion == version:
        return "champion"
    if plan.challenger == version and plan.mode.value != "none":
        share = f" {plan.canary_percent:g} %" if plan.mode.value == "canary" else ""
        return f"{plan.mode.value}{share}"
    return ""


def _rollout(plan: m.Plan | None) -> str:
    """Who answers since when, and who said so."""
    if plan is None or plan.champion is None:
        return ""
    beside = ""
    if plan.challenger is not None and plan.mode.value != "none":
        share = f", {plan.canary_percent:g} % of the requests" if plan.canary_percent else ""
        beside = f", {plan.challenger} in {plan.mode.value}{share}"
    why = f": {plan.reason}" if plan.reason else ""
    return f"version {plan.champion} answers{beside}, revision {plan.revision} by {plan.author}{why}"


def _default_version(lines: tuple[parts.VersionLine, ...]) -> str | None:
    champion = next((v.version for v in lines if v.role == "champion"), None)
    return champion or (lines[0].version if lines else None)


def _range(windows: tuple[WindowLine, ...]) -> tuple[str, str]:
    if not windows:
        return "", ""
    ends = windows[-1].start_s + windows[-1].length_s
    return fields.to_text(fields.from_ns(windows[0].start_s * 10**9)), fields.to_text(fields.from_ns(ends * 10**9))
