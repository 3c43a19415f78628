"""Tables and figures come from the results and from nowhere else."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report
from benchmarks.figures import FIGURES, Reached, Results, captured_percent, evaluate, ratios
from benchmarks.payloads import Wire
from benchmarks.targets import all_targets


def results_of(rates: dict[tuple[str, str], list[float]], p50_us: float = 50.0) -> Results:
    """Results with the given requests/s a round by (target, cell)."""
    measurements = [
        {
            "target": target,
            "cell": cell,
            "round": number,
            "requests": int(rate),
            "requests_per_s": rate,
            "latency_us": {"p50": p50_us, "p75": p50_us, "p90": p50_us, "p99": 3 * p50_us},
        }
        for (target, cell), values in rates.items()
        for number, rate in enumerate(values)
    ]
    machine: dict[str, Any] = {
        "cpu": "CPU", "cores": 2, "virtual": True, "memory_gib": 1.0, "kernel": "Linux 6", "architecture": "x",
        "python": "3.11.7", "wrk": "4.1", "versions": {"ray": "2.60.0", "gone": None}, "git_commit": "abc",
        "git_dirty": False, "measured_at": "2026-01-01T00:00:00+00:00", "load_average_at_start": [0.1, 0.2, 0.3],
    }  # fmt: skip
    return {
        "schema_version": report.SCHEMA_VERSION,
        "machine": machine,
        "settings": {"seconds": 8.0, "warm_up_s": 3.0, "rounds": 3, "quick": False},
        "engine": {"rows_per_s_batch_1": 1000, "rows_per_s_batch_64": 2000},
        "targets": {target: {"label": target.upper(), "versions": {}} for target, _ in rates},
        "measurements": measurements,
        "capture": [{"target": "ours_replica", "round": 0, "records": {"captured": 999, "dropped_buffer_full": 1}}],
        "failures": {},
    }


def figure(results: Results, words: str) -> Reached:
    return next(reached for reached in evaluate(results) if words in reached.figure.text)


def test_ratios_are_taken_within_a_round_against_the_better_peer() -> None:
    ours = {0: 100.0, 1: 300.0, 2: 50.0}
    assert ratios(ours, {0: 50.0, 1: 100.0}, {1: 150.0}) == [2.0, 2.0]


def test_a_figure_is_the_median_over_the_rounds_and_is_held_against_its_bound() -> None:
    rates = {
        ("ours_replica", "direct/oip-binary/64"): [130.0, 100.0, 140.0],
        ("mosec", "front/raw/64"): [50.0, 100.0, 100.0],
        ("mosec_32", "front/raw/64"): [100.0, 50.0, 50.0],
    }
    reached = figure(results_of(rates), "mosec")
    assert (reached.median, reached.lowest, reached.highest) == pytest.approx((1.3, 1.0, 1.4))
    assert reached.reached is True
    rates["mosec", "front/raw/64"] = [1000.0] * 3
    assert figure(results_of(rates), "mosec").reached is False


def test_an_upper_bound_is_one() -> None:
    rates = {("ours_replica", "direct/oip-binary/1"): [10.0], ("ours_replica", "front/oip-binary/1"): [10.0]}
    assert figure(results_of(rates, p50_us=79.0), "straight to one replica, one connection").reached is True
    assert figure(results_of(rates, p50_us=81.0), "straight to one replica, one connection").reached is False


def test_capture_that_lost_a_record_does_not_count_as_every_request() -> None:
    reached = figure(results_of({}), "answered requests that the replica's own account")
    assert reached.median == pytest.approx(99.9)
    assert reached.reached is False


def test_an_account_that_forgets_requests_is_not_complete() -> None:
    results = results_of({("ours_replica", "direct/oip-binary/64"): [2000.0]})
    results["capture"] = [{"target": "ours_replica", "round": 0, "records": {"captured": 500}}]
    assert captured_percent(results, "ours_replica") == [25.0]


def test_what_was_not_measured_is_said_and_is_not_a_no() -> None:
    results = results_of({})
    results["capture"] = []
    assert all(reached.reached is None for reached in evaluate(results))
    assert report.figures_table(results).count("not measured") == len(FIGURES)


def test_every_figure_names_cells_that_are_measured() -> None:
    everything = {(t.key, cell.key): [100.0] for t in all_targets() for cell in t.cells}
    unmeasured = [r.figure.text for r in evaluate(results_of(everything)) if r.median is None]
    assert unmeasured == []


def test_cell_keys_tell_all_cells_of_a_target_apart() -> None:
    for target in all_targets():
        keys = [cell.key for cell in target.cells]
        assert len(set(keys)) == len(keys), target.key
    assert {wire for t in all_targets() for wire in (c.wire for c in t.cells)} == set(Wire)


def test_the_cells_table_has_a_row_for_each_cell_and_for_each_failure() -> None:
    rates = {(t.key, cell.key): [random.Random(1).uniform(100, 200)] for t in all_targets() for cell in t.cells}
    results = results_of(rates)
    results["failures"] = {"mosec": "no environment 'mosec'"}
    table = report.cells_table(results)
    assert len(table.splitlines()) == 2 + len(rates) + 1
    assert "not measured: no environment 'mosec'" in table


def test_a_page_is_filled_between_its_markers_only_and_again_gives_the_same() -> None:
    results = results_of({("ours_replica", "direct/oip-binary/64"): [1234.0]})
    page = "before\n<!-- bench:peers begin -->\nold\n<!-- bench:peers end -->\nafter\n"
    filled = report.fill_page(page, results)
    assert filled.startswith("before\n<!-- bench:peers begin -->\n| server |")
    assert filled.endswith("<!-- bench:peers end -->\nafter\n")
    assert "1,234" in filled
    assert "old" not in filled
    assert report.fill_page(filled, results) == filled


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("<!-- bench:peers begin -->\n", "no end"),
        ("<!-- bench:weather begin -->\n<!-- bench:weather end -->", "names no table"),
    ],
)
def test_a_wrong_marker_is_named(page: str, words: str) -> None:
    with pytest.raises(report.ReportError, match=words):
        report.fill_page(page, results_of({}))


def test_results_that_are_missing_or_of_another_schema_say_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(report.ReportError, match="make bench"):
        report.load_results(tmp_path / "serving.json")
    (tmp_path / "serving.json").write_text('{"schema_version": 0}')
    with pytest.raises(report.ReportError, match="make bench"):
        report.load_results(tmp_path / "serving.json")


@pytest.mark.parametrize("page", report.PAGES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_the_committed_tables_equal_the_committed_results(page: Path) -> None:
    if not report.RESULTS.exists():
        pytest.skip("no results are committed yet: run `make bench`")
    text = page.read_text(encoding="utf-8")
    assert report.fill_page(text, report.load_results()) == text, f"run `python -m benchmarks.report {page.name}`"
