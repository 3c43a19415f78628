"""The Alarms pages: how the models are watched, and one alarm with its evidence."""

from __future__ import annotations

import math
from collections.abc import Sequence

from monitoring.alarms.watch import AlarmState, Promise
from monitoring.api import alarm_models as m
from monitoring.api import fields
from monitoring.api.alarm_views import AlarmView
from monitoring.console import alarm_parts as a
from monitoring.console import contexts as c
from monitoring.console import parts, words
from monitoring.console.build import Builder
from monitoring.console.build_reports import report_line
from monitoring.report_shelf import Report

NAMES = {Promise.LIFETIME: "lifetime", Promise.RUN_LENGTH: "run length"}
TONES = {
    AlarmState.QUIET: "good",
    AlarmState.FIRING: "bad",
    AlarmState.RECOVERING: "warn",
    AlarmState.RESOLVED: "good",
}
HARMS = {
    m.Harm.STEADY: ("no drift", "good"),
    m.Harm.UNKNOWN: ("drift, not enough labels", "warn"),
    m.Harm.HARMLESS_SO_FAR: ("drift, harmless so far", "good"),
    m.Harm.HARMFUL: ("harmful drift", "bad"),
}
RECENT = 50  # labels behind each point of the error rate


def alarms_page(builder: Builder, alarms: AlarmView, model: str | None) -> c.AlarmsPage:
    """Everything about alarms, of all models or of one."""
    found = alarms.alarms(m.AlarmQuery(model=model, limit=100))
    return c.AlarmsPage(
        shell=builder.shell("alarms"),
        model=model,
        watching=tuple(_watch(w) for w in found.watching),
        alarms=tuple(_line(x) for x in found.alarms),
        silences=tuple(_silence(s) for s in alarms.silences(m.SilenceQuery(model=model, limit=20)).silences),
        promises=tuple(
            parts.Choice(value=value, label=label, chosen=not value)
            for value, label in (("", "both promises"), *((p.value, NAMES[p]) for p in Promise))
        ),
    )


def alarm_page(builder: Builder, alarms: AlarmView, identity: str, reports: Sequence[Report]) -> c.AlarmPage:
    """One alarm; `reports` are those that were made for it."""
    found = alarms.detail(identity)
    cards = [builder.card(row) for row in (builder.view.store.case(x) for x in found.examples) if row is not None]
    watching = alarms.watching(found.model)
    return c.AlarmPage(
        shell=builder.shell("alarms"),
        alarm=_line(found),
        facts=_facts(found),
        panels=_panels(found),
        history=tuple(
            a.HistoryLine(at=fields.to_text(e.at), state=e.state.value, tone=TONES[e.state], text=e.text)
            for e in found.events
        ),
        moved=None
        if found.moved is None
        else tuple(
            a.MovedLine(
                kind=x.kind,
                method=x.method,
                subject=x.subject,
                value=x.value,
                threshold=x.threshold,
                ratio=x.ratio,
                detail=x.detail,
            )
            for x in found.moved
        ),
        failing=tuple(cards),
        drift=watching[0].drift.text,
        reports=tuple(report_line(r) for r in reports),
    )


def _watch(w: m.Watching) -> a.WatchCard:
    name, tone = HARMS[w.drift.harm]
    return a.WatchCard(
        model=w.model,
        version=w.version,
        tolerance=w.tolerance,
        tolerance_source=w.tolerance_source,
        labels=w.labels,
        waiting=w.waiting,
        errors=w.errors,
        rate=w.errors / w.labels if w.labels else None,
        problem=w.problem,
        promises=tuple(
            a.PromiseLine(
                promise=p.promise.value,
                name=NAMES[p.promise],
                says=p.says,
                state=p.state.value,
                tone=TONES[p.state],
                limit=p.limit,
                evidence=p.evidence,
                threshold=p.threshold,
                way=min(1.0, max(0.0, _way(p.evidence, p.threshold))),
                silenced=p.silenced,
                href=None if p.alarm is None else f"/alarms/{p.alarm}",
            )
            for p in w.promises
        ),
        harm=name,
        harm_tone=tone,
        harm_text=w.drift.text,
    )


def _way(evidence: float, threshold: float) -> float:
    """How far the evidence has come on a logarithmic scale: 0 at none, 1 at the threshold."""
    return math.log(max(evidence, 1.0)) / math.log(threshold)


def _line(x: m.Alarm) -> a.AlarmLine:
    return a.AlarmLine(
        id=x.id,
        model=x.model,
        version=x.version,
        name=NAMES[x.promise],
        says=x.says,
        state=x.state.value,
        tone=TONES[x.state],
        limit=x.limit,
        estimate=x.estimate,
        low=x.low,
        high=x.high,
        labels=x.labels,
        errors=x.errors,
        fired_at=fields.to_text(x.fired_at),
        resolved_at=None if x.resolved_at is None else fields.to_text(x.resolved_at),
        silenced=x.silenced,
        failing_inputs=x.failing_inputs,
    )


def _silence(s: m.Silence) -> a.SilenceLine:
    return a.SilenceLine(
        id=s.id,
        model=s.model,
        name="both promises" if s.promise is None else NAMES[s.promise],
        start=fields.to_text(s.start),
        until=fields.to_text(s.until),
        author=s.author,
        reason=s.reason,
        holds=s.holds,
        ended_at=None if s.ended_at is None else fields.to_text(s.ended_at),
        ended_by=s.ended_by,
    )


def _facts(x: m.AlarmDetail) -> tuple[parts.Fact, ...]:
    interval = "not enough data" if x.estimate is None else words.percent(x.estimate)
    if x.low is not None and x.high is not None:
        interval += f" ({words.percent(x.low)} to {words.percent(x.high)}, Wilson 95 %)"
    return (
        parts.Fact(name="Promise", value=f"{NAMES[x.promise]}: {x.says}"),
        parts.Fact(name="Against", value=f"an error rate of at most {words.percent(x.limit)}"),
        parts.Fact(name="Tolerance", value=f"{words.percent(x.tolerance)}: {x.tolerance_source}"),
        parts.Fact(name="Evidence", value=f"{x.evidence:,.4g} of {x.threshold:,.0f} needed, when it fired"),
        parts.Fact(name="Labels behind it", value=f"{x.labels:,}, of which {x.errors:,.4g} wrong"),
        parts.Fact(name="Error rate", value=interval),
        parts.Fact(name="Since", value=f"{words.clock(fields.to_text(x.start))} UTC"),
        parts.Fact(name="Alarm", value=x.id, code=True),
    )


def _panels(x: m.AlarmDetail) -> tuple[parts.Panel, ...]:
    if not x.path:
        return ()
    axis = parts.Axis(from_s=x.path[0].position, to_s=x.path[-1].position, step_s=1, counts=True)
    levels = [(p.position, p.lifetime if x.promise is Promise.LIFETIME else p.run_length) for p in x.path]
    wrong = [p.wrong for p in x.path]
    rates = [sum(wrong[max(0, i + 1 - RECENT) : i + 1]) / min(i + 1, RECENT) for i in range(len(wrong))]
    known = [i for i in range(len(wrong)) if i + 1 >= RECENT] or list(range(len(wrong)))
    way = tuple(parts.Point(at_s=at, value=min(1.5, max(0.0, _way(e, x.threshold)))) for at, e in levels)
    rate = tuple(parts.Point(at_s=x.path[i].position, value=rates[i], n=min(i + 1, RECENT)) for i in known)
    return (
        parts.Panel(
            key="evidence",
            title="Evidence",
            hint="label by label, on a logarithmic scale; 1 is the threshold",
            unit="ratio",
            axis=axis,
            series=(parts.Series(name=f"evidence, {NAMES[x.promise]} promise", tone="tone-4", points=way),),
            limit=1.0,
            limit_name="fires",
        ),
        parts.Panel(
            key="errors",
            title="Audited error rate",
            hint=f"over the last {RECENT} labels",
            unit="share",
            axis=axis,
            series=(parts.Series(name="wrong", tone="tone-1", points=rate),),
            limit=x.limit,
            limit_name=f"{x.limit:.1%}",
        ),
    )
