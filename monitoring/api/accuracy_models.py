"""What the API says about accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from pydantic import Field

from monitoring.accuracy import queries
from monitoring.accuracy.backtest import Tried, score_methods
from monitoring.accuracy.estimate import AccuracyScope, Measure, Method
from monitoring.accuracy.queries import AccuracyRow
from monitoring.api import fields
from monitoring.api.asks import AccuracyQuery
from monitoring.api.fields import Answer, Time
from monitoring.store import Store


class AccuracyEstimate(Answer):
    """One estimate of how accurate a version was over some time."""

    version: str
    variant: str
    scope: AccuracyScope
    start: Time = Field(description="Start of the newest window in it.")
    length_s: int = Field(description="How far it reaches back from that window's end.")
    method: Method
    measure: Measure
    value: float | None = Field(description="None: `missing` says why.")
    low: float | None
    high: float | None
    level: float | None = Field(
        description="Coverage of the interval: nominal for audits; of the similar rehearsed windows for a rehearsal."
    )
    rows: int
    labels: int = Field(description="Audited labels behind it.")
    trusted: bool = Field(description="False where something speaks against it; `caveat` says what.")
    best: bool = Field(description="The one to show where there is room for one.")
    missing: str
    caveat: str
    sentence: str = Field(description="The same for people.")

    @classmethod
    def of(cls, row: AccuracyRow) -> AccuracyEstimate:
        """From a stored row."""
        values = {name: getattr(row, name) for name in cls.model_fields if name != "start"}
        return cls.model_validate(values | {"start": fields.from_ns(row.start_s * 10**9)})


class Accuracy(Answer):
    """How accurate a model is: the one estimate to show of each version, and everything behind it."""

    model: str
    now: list[AccuracyEstimate]
    estimates: list[AccuracyEstimate]


class TriedWindow(Answer):
    """One window of a backtest."""

    start: int = Field(description="Seconds since the epoch, or the number of the first row.")
    rows: int
    truth: float
    estimates: dict[str, float | None] = Field(description="By method; of several audits the mean.")


class MethodResult(Answer):
    """How one method did."""

    method: Method
    said: int = Field(description="Windows, or audits, for which it gave an estimate, of `tried`.")
    tried: int
    error: float | None = Field(description="Mean absolute error.")
    bias: float | None = Field(description="Mean of estimate minus truth: above 0 is too rosy.")
    worst: float | None
    coverage: float | None = Field(description="Share of intervals that held the truth.")
    level: float | None = Field(description="What the intervals promise.")
    width: float | None
    trusted: int
    error_trusted: float | None = Field(description="Mean absolute error where the estimate was trusted.")


class Backtest(Answer):
    """How well each estimate would have done on a labelled history."""

    model: str
    version: str
    audit_labels: int
    methods: list[MethodResult]
    windows: list[TriedWindow]


def backtest_of(model: str, version: str, audit_labels: int, tried: Sequence[Tried]) -> Backtest:
    """A backtest as the API and the command line show it."""
    windows = []
    for window in tried:
        said: dict[str, float | None] = {e.method.value: e.value for e in window.estimates}
        audits = [e.value for e in window.audits if e.value is not None]
        said[Method.AUDIT.value] = sum(audits) / len(audits) if audits else None
        windows.append(TriedWindow(start=window.start, rows=window.rows, truth=window.truth, estimates=said))
    methods = [MethodResult.model_validate(asdict(score)) for score in score_methods(tried)]
    return Backtest(model=model, version=version, audit_labels=audit_labels, methods=methods, windows=windows)


def accuracy_of(store: Store, model: str, query: AccuracyQuery) -> Accuracy:
    """Estimates of the newest window of each version, or of a range."""
    made = AccuracyEstimate.of
    versions = [query.version] if query.version else [v.version for v in store.versions(model)]
    latest = {v: queries.latest(store, model, v) for v in versions}
    if query.start is None and query.end is None:
        wanted = [r for v in versions for r in latest[v] if r.variant == query.variant]
        wanted = [r for r in wanted if query.scope in (None, r.scope) and query.method in (None, r.method)]
        rows = wanted[: query.limit]
    else:
        rows = list(
            queries.estimates(
                store,
                model,
                version=query.version,
                scope=query.scope,
                variant=query.variant,
                method=query.method,
                from_s=None if query.start is None else int(query.start.timestamp()),
                to_s=None if query.end is None else int(query.end.timestamp()),
                limit=query.limit,
            )
        )
    best = [queries.now(latest[v], measure) for v in versions for measure in Measure]
    return Accuracy(model=model, now=[made(r) for r in best if r is not None], estimates=[made(r) for r in rows])
