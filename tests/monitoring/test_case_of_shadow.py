"""One request, two answers: what champion and shadow made of it are two records and, where both fail, two cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import sqlalchemy as sa

from monitoring import schema as t
from monitoring.cycle import make_loop
from monitoring.store import Store
from tests.support import monitor_world as w
from tests.support.monitor_child import drain


def test_a_shadow_that_fails_on_the_same_requests_as_the_champion_has_cases_of_its_own(tmp_path: Path) -> None:
    options = w.options(tmp_path)
    loop = make_loop(options, Store(options.database_url), w.catalogue(tmp_path / "reference"))
    replica = w.Replica(tmp_path / "records")
    images = np.full_like(w.digits().images[:5], np.nan)
    ids, times = [f"r{i}" for i in range(5)], [w.START_S * w.SECOND + i for i in range(5)]
    spoiled = {"logits": np.full((5, 10), np.nan, np.float32), "embedding": np.full((5, 64), np.nan, np.float32)}
    outputs = {name: spoiled.get(name, array) for name, array in w.digits().answer(images).items()}
    for variant in ("champion", "shadow", "canary"):
        replica.offer(w.batch(images, ids, times, variant=variant, outputs=outputs))
    drain(loop)
    with loop.store.read() as connection:
        found = connection.execute(sa.select(t.cases.c.record_id, t.cases.c.variant, t.cases.c.id)).all()
    assert {(row.record_id, row.variant) for row in found} == {
        (i, variant) for i in ids for variant in ("champion", "shadow", "canary")
    }
    assert len({row.id for row in found}) == 15
    rows = loop.store.records("r0", None)
    assert sorted(row.variant for row in rows) == ["canary", "champion", "shadow"]
    assert all(row.has_case for row in rows)
    replica.close()
    loop.store.close()
