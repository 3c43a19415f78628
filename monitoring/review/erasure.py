"""What an erasure leaves of decisions: who decided when, without what was said."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from monitoring import schema as t
from monitoring.keys import case_id
from monitoring.review.lines import chunks


def erase_words(connection: sa.Connection, hashes: Sequence[int], names: Sequence[str]) -> int:
    """Empty labels and comments of the trail of these records' cases; returns how many rows.

    Before the records and cases themselves go. The trail of a case that is gone is found through its record.
    """
    c, r, v, d = t.cases.c, t.records.c, t.versions.c, t.decisions.c
    found: set[str] = set()
    for i in range(0, len(hashes), 400):
        part = list(hashes[i : i + 400])
        own = sa.select(c.id).where(c.id_hash.in_(part), c.record_id.in_(names))
        found.update(connection.scalars(own))
        query = sa.select(v.model, r.record_id, r.time_ns, r.variant).join(t.versions, r.version_id == v.id)
        query = query.where(r.id_hash.in_(part), r.record_id.in_(names))
        found.update(case_id(*row) for row in connection.execute(query))
    gone = 0
    for chunk in chunks(sorted(found)):
        rows = connection.execute(sa.select(d.id, d.before, d.after).where(d.case_id.in_(chunk))).all()
        for row in rows:
            kept = {name: {k: v for k, v in getattr(row, name).items() if k not in ("label", "tags")}
                    for name in ("before", "after")}  # fmt: skip
            values = kept | {"label": None, "comment": None}
            connection.execute(t.decisions.update().where(d.id == row.id).values(**values))
        gone += len(rows)
    return gone
