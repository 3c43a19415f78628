"""The numbers behind the charts."""

from __future__ import annotations

from monitoring.console.panels import AUDITS, traffic_panel
from monitoring.console.panels import _pooled as pooled
from monitoring.queries import Totals, WindowLine, totals


def line(start_s: int, *, variant: str = "champion", version: str = "1", **counts: int) -> WindowLine:
    zero = dict.fromkeys(("requests", "rows", "flagged", "labelled", "correct", "audit_labelled", "audit_correct"), 0)
    facts = zero | counts
    outcomes = {"ok": facts["rows"]}
    return WindowLine(
        id=1, version=version, variant=variant, start_s=start_s, length_s=60, outcomes=outcomes,
        p_wrong_mean=0.25 if facts["rows"] else None, **facts,
    )  # fmt: skip


def test_a_few_audits_are_no_point_and_enough_of_them_are_one_over_their_windows() -> None:
    sums = {60 * i: Totals(audit_labelled=3, audit_correct=i % 3) for i in range(20)}
    points = pooled(sums)
    assert [p.n for p in points] == [21, 21]
    assert all(p.n >= AUDITS for p in points)
    assert points[0].value == sum(i % 3 for i in range(7)) / 21
    assert pooled({0: Totals(audit_labelled=AUDITS - 1)}) == ()


def test_sums_weigh_windows_by_their_rows_and_know_nothing_without_rows() -> None:
    sums = totals([line(0, requests=4, rows=3), line(60, requests=1, rows=1), line(0, version="2", requests=1)])
    assert sums["1"].requests == 5
    assert sums["1"].failed == 1
    assert sums["1"].estimated_accuracy == 0.75
    assert sums["1"].accuracy is None
    assert sums["2"].estimated_accuracy is None


def test_variants_of_one_minute_are_one_bar() -> None:
    panel = traffic_panel([line(0, requests=2, rows=2), line(0, variant="pinned", requests=3, rows=3)])
    assert [p.value for p in panel.series[0].points] == [5]
