"""One turn of the refit: the next stretch of labels, every version that they are about."""

from __future__ import annotations

import logging

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.baselines import Baselines
from monitoring.options import MonitorOptions, ScoreOptions
from monitoring.score_fits.book import FitBook
from monitoring.score_fits.clock import FitClock
from monitoring.score_fits.refit import Decision, Fit, FitState, Sample, refit
from monitoring.score_fits.rows import (
    StoredFit,
    first_label,
    first_window,
    looked_until,
    read_fits,
    set_looked_until,
    write_fit,
)
from monitoring.score_fits.sample import labelled_sample
from monitoring.store import Store

logger = logging.getLogger(__name__)


def start_clock(store: Store, options: MonitorOptions, book: FitBook) -> FitClock:
    """Where the refits stand, from the database."""
    with store.read() as connection:
        book.replace(read_fits(connection))
        return FitClock(options, looked_until(connection) or first_window(connection))


def look_at_labels(
    store: Store, baselines: Baselines, options: MonitorOptions, clock: FitClock, book: FitBook, span: tuple[int, int]
) -> bool:
    """Look at the labels of the first boundary in `span` that has any; returns whether there may be more to do."""
    begin, end = span
    made: list[tuple[int, int, Decision]] = []
    with store.read() as connection:
        first = first_label(connection, begin, end)
        until = end if first is None else clock.boundary_after(first)
        if first is not None:
            for version_id, model, version in _versions(connection, begin, until):
                found = _consider(connection, baselines, options.scores, (version_id, model, version), until)
                if found is not None:
                    made.append((version_id, *found))
                    logger.info("P(wrong) of %s version %s: %s", model, version, found[1].evidence.reason)
    with store.write() as connection:
        for version_id, number, decision in made:
            write_fit(connection, version_id, number, until, until + clock.hold_ns, decision)
        set_looked_until(connection, until)
    if made:
        with store.read() as connection:
            book.replace(read_fits(connection))
    clock.looked(until)
    return until < end


def enough(sample: Sample, options: ScoreOptions, last: StoredFit | None) -> str | None:
    """Why there are not enough labels to try a refit; None when there are."""
    total, wrong = len(sample.wrong), int(sample.wrong.sum())
    if total < options.min_labels:
        return f"{total} of the {options.min_labels} labels that a fit needs"
    if sample.audited < options.min_audited:
        return f"{sample.audited} of the {options.min_audited} labels of randomly drawn records that a fit needs"
    if min(wrong, total - wrong) < options.min_wrong:
        return f"{wrong} wrong and {total - wrong} right answers; a fit needs {options.min_wrong} of each"
    if last is not None:
        wanted = max(options.min_wrong, round(options.growth * last.labels))
        if sample.fresh < wanted:
            return f"{sample.fresh} of the {wanted} new labels that the next fit needs"
    return None


def _versions(connection: sa.Connection, begin: int, until: int) -> list[tuple[int, str, str]]:
    f, v = t.feedback.c, t.versions.c
    models = sa.select(f.model).where(f.time_ns >= begin, f.time_ns < until).distinct()
    query = sa.select(v.id, v.model, v.version).where(v.model.in_(models)).order_by(v.model, v.version)
    return [(row.id, row.model, row.version) for row in connection.execute(query)]


def _consider(
    connection: sa.Connection, baselines: Baselines, options: ScoreOptions, key: tuple[int, str, str], until: int
) -> tuple[int, Decision] | None:
    version_id, model, version = key
    baseline = baselines.get(model, version)
    classes = None if baseline.profile is None else baseline.profile.classes
    if classes is None or classes.score_rows is None:
        return None  # made before references held what a new model's threshold comes from
    fits = read_fits(connection, model, version)
    last = fits[-1] if fits else None
    since = 0 if last is None else last.until_ns
    sample = labelled_sample(connection, model, version_id, baseline, until, options, since)
    if enough(sample, options, last) is not None:
        return None
    present: Fit | None = next((x.fit for x in reversed(fits) if x.state is FitState.ADOPTED), None)
    return len(fits) + 1, refit(sample, present, classes.failure_model)
