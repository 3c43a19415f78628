"""Time limits by model, from the privacy settings, and the archive's own limits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from export.contracts.privacy import PrivacyPolicy, policy_of
from monitoring import schema as t
from monitoring.archive.catalogue import list_files, replace_file
from monitoring.archive_options import ArchiveOptions
from monitoring.case_rows import InputState

DAY_NS = 86_400 * 10**9
AHEAD = 0.1  # of the limit: what goes from a data set with the first row that is too old


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """Nanoseconds since the epoch: rows of before `due_ns` have to go, and those of before `with_ns` go with them."""

    due_ns: int
    with_ns: int


def limit_of(policies: Sequence[PrivacyPolicy], model: str, now_s: float) -> Limit | None:
    """The limit of a model's rows in data sets; None where there is none."""
    return limit_after(policy_of(policies, model).days_in_snapshots, now_s)


def limit_after(days: float | None, now_s: float) -> Limit | None:
    """The limit of what may stay so many days; None where there is none."""
    if days is None:
        return None
    due_ns = int(now_s * 1e9) - int(days * DAY_NS)
    return Limit(due_ns=due_ns, with_ns=due_ns + int(AHEAD * days * DAY_NS))


def apply_time_limits(connection: sa.Connection, now_s: float, policies: Sequence[PrivacyPolicy]) -> None:
    """Delete what is older than its model's limits."""
    if not any((p.input_days, p.record_days, p.case_days, p.feedback_days) != (None,) * 4 for p in policies):
        return
    now_ns = int(now_s * 1e9)
    c, r, v = t.cases.c, t.records.c, t.versions.c
    for model in _models(connection):
        p = policy_of(policies, model)
        if p.input_days is not None:
            old = sa.select(c.id).where(c.model == model, c.time_ns < now_ns - int(p.input_days * DAY_NS))
            x = t.case_tensors
            connection.execute(x.delete().where(x.c.case_id.in_(old), x.c.direction != "out"))
            gone = t.cases.update().where(c.id.in_(old), c.input_state.in_(["kept", "thumbnail"]))
            connection.execute(gone.values(input_state=InputState.EXPIRED.value))
        if p.record_days is not None:
            versions = sa.select(v.id).where(v.model == model)
            limit = r.time_ns < now_ns - int(p.record_days * DAY_NS)
            connection.execute(t.records.delete().where(r.version_id.in_(versions), limit))
        if p.case_days is not None:
            limit = c.time_ns < now_ns - int(p.case_days * DAY_NS)
            connection.execute(t.cases.delete().where(c.model == model, limit))
        if p.feedback_days is not None:
            for said in (t.feedback, t.keyed_feedback):
                limit = said.c.time_ns < now_ns - int(p.feedback_days * DAY_NS)
                connection.execute(said.delete().where(said.c.model == model, limit))


def expired_files(
    connection: sa.Connection, now_s: float, options: ArchiveOptions, policies: Sequence[PrivacyPolicy]
) -> list[str]:
    """Take files of the archive that are too old, or too many, out of the catalogue; the caller removes them."""
    files = list_files(connection)
    now_ns, gone, total = int(now_s * 1e9), [], 0
    # A log from long ago can be read in; what a policy promises to a person holds by the clock all the same.
    oldest_ns = min(now_ns, max((file.last_ns for file in files), default=now_ns)) - int(options.days * DAY_NS)
    for file in reversed(files):  # the newest are kept
        total += file.bytes
        days = policy_of(policies, file.model).record_days
        limit_ns = oldest_ns if days is None else max(oldest_ns, now_ns - int(days * DAY_NS))
        if total > options.max_bytes or file.last_ns < limit_ns:
            replace_file(connection, file.path, None)
            gone.append(file.path)
    return gone


def remove_files(root: Path, paths: Iterable[str]) -> None:
    """Remove files of the archive."""
    for path in paths:
        (root / path).unlink(missing_ok=True)


def _models(connection: sa.Connection) -> list[str]:
    found: set[str] = set()
    for column in (t.versions.c.model, t.feedback.c.model):
        found.update(connection.scalars(sa.select(column).distinct()))
    return sorted(found)
