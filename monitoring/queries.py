"""Questions of the console and the API that the store's general ones would answer with megabytes of sketches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.store import FIXED_POINT, Store


@dataclass(frozen=True, kw_only=True, slots=True)
class WindowLine:
    """One window without its sketches."""

    id: int
    version: str
    variant: str
    start_s: int
    length_s: int
    requests: int
    rows: int
    outcomes: Mapping[str, int]
    flagged: int
    labelled: int
    correct: int
    audit_labelled: int
    audit_correct: int
    p_wrong_mean: float | None
    matched: int = 0
    missed: int = 0
    spurious: int = 0
    error_sum: int = 0

    @property
    def accuracy(self) -> float | None:
        """Share of labelled rows that were right; None without labels."""
        return self.correct / self.labelled if self.labelled else None

    @property
    def audit_accuracy(self) -> float | None:
        """The same over the uniformly drawn audit records only; None without labels."""
        return self.audit_correct / self.audit_labelled if self.audit_labelled else None


@dataclass(kw_only=True, slots=True)
class Totals:
    """Sums over windows. `p_wrong_sum` is over `rows`."""

    requests: int = 0
    rows: int = 0
    flagged: int = 0
    labelled: int = 0
    correct: int = 0
    audit_labelled: int = 0
    audit_correct: int = 0
    p_wrong_sum: float = 0.0
    matched: int = 0
    missed: int = 0
    spurious: int = 0
    error_sum: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)

    @property
    def accuracy(self) -> float | None:
        """Share of labelled rows that were right; None without labels."""
        return self.correct / self.labelled if self.labelled else None

    @property
    def audit_accuracy(self) -> float | None:
        """The same over the uniformly drawn audit records only; None without labels."""
        return self.audit_correct / self.audit_labelled if self.audit_labelled else None

    @property
    def estimated_accuracy(self) -> float | None:
        """1 - mean P(wrong): what the scores expect without any label; None without scored rows."""
        return 1.0 - self.p_wrong_sum / self.rows if self.rows and self.p_wrong_sum else None

    @property
    def precision(self) -> float | None:
        """Share of predicted labels or boxes that are true; None without comparable ones, and for other tasks."""
        given = self.matched + self.spurious
        return self.matched / given if given else None

    @property
    def recall(self) -> float | None:
        """Share of true labels or boxes that were predicted; None without comparable ones, and for other tasks."""
        true = self.matched + self.missed
        return self.matched / true if true else None

    @property
    def mean_error(self) -> float | None:
        """Mean absolute error of a regression in tolerances; None without labels, and for other tasks."""
        return self.error_sum / FIXED_POINT / self.labelled if self.labelled and self.error_sum else None

    @property
    def failed(self) -> int:
        """Requests without an answer of the model."""
        return self.requests - self.outcomes.get("ok", 0)

    def add(self, line: WindowLine) -> None:
        """Add a window."""
        self.requests += line.requests
        self.rows += line.rows
        self.flagged += line.flagged
        self.labelled += line.labelled
        self.correct += line.correct
        self.audit_labelled += line.audit_labelled
        self.audit_correct += line.audit_correct
        self.p_wrong_sum += (line.p_wrong_mean or 0.0) * line.rows
        self.matched += line.matched
        self.missed += line.missed
        self.spurious += line.spurious
        self.error_sum += line.error_sum
        for outcome, count in line.outcomes.items():
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + count


@dataclass(frozen=True, kw_only=True, slots=True)
class SignalPoint:
    """One value of a signal's series; None where there was not enough data."""

    start_s: int
    length_s: int
    value: float | None
    threshold: float | None
    exceeded: bool


def window_lines(
    store: Store,
    model: str,
    *,
    version: str | None = None,
    variant: str | None = None,
    from_s: int | None = None,
    to_s: int | None = None,
    limit: int = 500,
) -> tuple[WindowLine, ...]:
    """Windows that start in [from_s, to_s), oldest first; the newest `limit` of them."""
    w, v = t.windows.c, t.versions.c
    columns = [w[f.name] for f in fields(WindowLine) if f.name in w and f.name != "version"]
    query = sa.select(*columns, w.p_wrong_sum, v.version).join(t.versions, w.version_id == v.id).where(v.model == model)
    for column, value in ((v.version, version), (w.variant, variant)):
        if value is not None:
            query = query.where(column == value)
    if from_s is not None:
        query = query.where(w.start_s >= from_s)
    if to_s is not None:
        query = query.where(w.start_s < to_s)
    rows = _all(store, query.order_by(w.start_s.desc(), w.id.desc()).limit(limit))
    return tuple(_line(row) for row in reversed(rows))


def totals(lines: Iterable[WindowLine]) -> dict[str, Totals]:
    """Sums by version."""
    found: dict[str, Totals] = {}
    for line in lines:
        found.setdefault(line.version, Totals()).add(line)
    return found


def judged_items(store: Store) -> dict[tuple[str, str], Totals]:
    """What was matched, missed and spurious, and the errors, by model and version, over all kept windows."""
    w, v = t.windows.c, t.versions.c
    sums = [sa.func.sum(w[name]).label(name) for name in ("labelled", "matched", "missed", "spurious", "error_sum")]
    query = sa.select(v.model, v.version, *sums).join(t.versions, w.version_id == v.id).group_by(v.model, v.version)
    rows = _all(store, query)
    return {(row.pop("model"), row.pop("version")): _summed(row) for row in rows}


def signal_series(
    store: Store,
    model: str,
    version: str,
    scope: str,
    keys: Sequence[tuple[str, str]],
    *,
    limit: int = 500,
) -> dict[tuple[str, str], tuple[SignalPoint, ...]]:
    """The newest `limit` values of each (method, subject), oldest first."""
    s, v = t.signals.c, t.versions.c
    found: dict[tuple[str, str], tuple[SignalPoint, ...]] = {}
    for method, subject in keys:
        query = (
            sa.select(s.start_s, s.length_s, s.value, s.threshold, s.exceeded)
            .join(t.versions, s.version_id == v.id)
            .where(v.model == model, v.version == version, s.scope == scope)
            .where(s.method == method, s.subject == subject)
            .order_by(s.start_s.desc())
            .limit(limit)
        )
        found[method, subject] = tuple(SignalPoint(**row) for row in reversed(_all(store, query)))
    return found


def models_seen(store: Store) -> tuple[str, ...]:
    """Names of the models in the log, sorted."""
    return tuple(row["model"] for row in _all(store, sa.select(t.versions.c.model).distinct().order_by("model")))


def _summed(row: dict[str, Any]) -> Totals:
    totals = Totals()
    totals.labelled, totals.error_sum = int(row["labelled"] or 0), int(row["error_sum"] or 0)
    totals.matched, totals.missed, totals.spurious = (int(row[n] or 0) for n in ("matched", "missed", "spurious"))
    return totals


def _line(row: dict[str, Any]) -> WindowLine:
    p_wrong_sum = row.pop("p_wrong_sum")
    # A calibrated probability is never 0: a sum of 0 means that P(wrong) of none of the rows is known.
    mean = p_wrong_sum / FIXED_POINT / row["rows"] if row["rows"] and p_wrong_sum else None
    return WindowLine(**row, p_wrong_mean=mean)


def _all(store: Store, query: sa.Select[Any]) -> list[dict[str, Any]]:
    with store.read() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]
