"""The case explorer on PostgreSQL: map, likeness, selections, tried requests, comparisons and slices."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.monitoring.explore import test_compare as compare
from tests.monitoring.explore import test_explore_api as explore
from tests.support.explore_world import explored
from tests.support.postgres import postgres

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_the_explorer_answers_on_postgresql_as_on_sqlite(tmp_path: Path) -> None:
    with (
        postgres() as server,
        explored(tmp_path, database_url=server.database("explore")) as world,
        httpx.Client(base_url=world.address, trust_env=False, timeout=60) as client,
    ):
        assert world.options.database_url.startswith("postgresql")
        explore.test_the_map_holds_records_cases_and_the_reference_and_stays_put(world, client)
        explore.test_a_selection_is_kept_under_a_short_name(client)
        shadowed = client.get("/api/models/digits/compare?left=1&right=2&set=request&limit=1").json()
        assert (shadowed["pairs"], shadowed["different"] > 0) == (240, True)
        compare.test_stored_cases_are_sent_to_both_and_answer_as_they_did(world)
        case = client.get("/api/cases?model=digits&version=1&limit=1").json()["cases"][0]["id"]
        for of in ("records", "cases", "reference"):
            near = client.get(f"/api/cases/{case}/neighbours?of={of}&k=8")
            assert near.status_code == 200, near.text
            likeness = [n["likeness"] for n in near.json()["neighbours"]]
            assert len(likeness) == 8, of
            assert likeness == sorted(likeness, reverse=True)
            assert all(-1.0 <= x <= 1.01 for x in likeness)
        for page in (f"/cases/{case}", "/models/digits/map", "/models/digits/compare", "/slices", "/", "/cases"):
            answer = client.get(page)
            assert answer.status_code == 200, (page, answer.text[:300])
        explore.test_a_tried_input_is_answered_scored_placed_and_no_traffic(world, client)
