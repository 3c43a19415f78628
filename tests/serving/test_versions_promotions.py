"""F05: promotions and roll-backs in a row under mixed load lose no request, and no client sees a version come back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import promotions
from tests.support.monotone import steps_back


@pytest.mark.fault
def test_promotions_and_rollbacks_under_mixed_load_lose_nothing(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    code = promotions.main(["--quick", "--out", str(out)])
    result = json.loads(out.read_text())
    assert code == 0, result
    assert result["requests"] >= 2_000
    assert all(count > 50 for count in result["by_way"].values()), result["by_way"]
    assert [(f["kind"], f["version"]) for f in result["flips"]] == [
        ("promote", "2"),
        ("rollback", "1"),
        ("promote", "3"),
        ("rollback", "1"),
    ]


@pytest.mark.slow
@pytest.mark.fault
def test_twenty_flips_in_a_row_with_a_hundred_thousand_requests(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    assert promotions.main(["--out", str(out)]) == 0, out.read_text()
    result = json.loads(out.read_text())
    assert result["requests"] >= 100_000
    assert len(result["flips"]) == 20


def test_the_watchers_see_what_they_watch_for() -> None:
    assert steps_back(["1", "2", "3"], ["1", "2", "3"]) == 0
    assert steps_back(["1", "3"], ["1", "2", "3"]) == 0, "a flip that a client slept through"
    assert steps_back(["1", "2", "1", "2", "3"], ["1", "2", "3"]) == 1, "an answer of the version before"
    converged = [(0.0, "1"), (10.0, "2"), (20.0, "1")]
    assert promotions._stale([("1", 5, 1.0, 9.9), ("2", 5, 10.1, 19.9), ("1", 5, 20.1, 30.0)], converged) == 0
    assert promotions._stale([("1", 5, 1.0, 12.0)], converged) == 1, "two seconds into the next version's time"
    assert promotions._growth([100, 100, 100, 100, 150, 150]) == 50
