"""Tags of cases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.review.lines import chunks

Step = tuple[str, tuple[str, ...] | None, tuple[str, ...] | None]


def tags_of(connection: sa.Connection, ids: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The tags of those cases that have some, sorted."""
    g = t.case_tags.c
    found: dict[str, list[str]] = {}
    for chunk in chunks(sorted(set(ids))):
        query = sa.select(t.case_tags).where(g.case_id.in_(chunk)).order_by(g.case_id, g.tag)
        for row in connection.execute(query):
            found.setdefault(row.case_id, []).append(row.tag)
    return {identity: tuple(tags) for identity, tags in found.items()}


def set_tags(connection: sa.Connection, steps: Iterable[Step]) -> None:
    """Take each case from its tags before to those after: what others added or removed stays as they left it."""
    added: dict[str, set[str]] = {}
    removed: dict[str, list[str]] = {}
    for identity, before, after in steps:
        for tag in set(after or ()) - set(before or ()):
            added.setdefault(identity, set()).add(tag)
        for tag in set(before or ()) - set(after or ()):
            removed.setdefault(tag, []).append(identity)
    g = t.case_tags.c
    for tag, ids in sorted(removed.items()):
        for chunk in chunks(ids):
            connection.execute(t.case_tags.delete().where(g.tag == tag, g.case_id.in_(chunk)))
    if added:
        known = tags_of(connection, list(added))
        rows = [
            {"case_id": identity, "tag": tag}
            for identity, tags in added.items()
            for tag in sorted(tags - set(known.get(identity, ())))
        ]
        if rows:
            connection.execute(t.case_tags.insert(), rows)
