"""The capacity model: its constants are what was measured, and it behaves as arithmetic should."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.capacity import Load, Measured, fitting_sample, most_rps_of_one_monitor, plan

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
loads = st.builds(
    Load, rps=st.floats(1, 1e6), sample=st.floats(0.001, 1), model_us=st.floats(0, 1e5), payload_bytes=st.floats(0, 1e6)
)


def read(name: str):  # type: ignore[no-untyped-def]
    return json.loads((RESULTS / f"{name}.json").read_text())


def test_the_constants_are_the_measurements():
    m = Measured()
    assert m.ingest_per_s == read("ingest")["worst_records_per_cpu_second"]
    run = read("ingest")["runs"][0]
    assert m.record_bytes == pytest.approx(run["log_bytes"] / run["records"], rel=0.01)
    (captured,) = [row for row in read("taxes")["rows"] if row["name"] == "and capture"]
    assert m.replica_us == pytest.approx(captured["cpu_us"], rel=0.01)
    ways = {
        way: statistics.median(
            1e6 * 2 / x["requests_per_s"]
            for x in read("serving")["measurements"]
            if x["target"] == "ours_replica" and x["cell"] == f"{way}/oip-binary/64"
        )
        for way in ("front", "direct")
    }
    assert m.front_us == pytest.approx(ways["front"] - ways["direct"], rel=0.15)


@given(loads)
def test_twice_the_load_needs_twice_as_much_and_never_less(load: Load):
    once, twice = plan(load), plan(Load(**{**vars_of(load), "rps": load.rps * 2}))
    assert once.replicas <= twice.replicas <= 2 * once.replicas
    assert twice.log_bytes_per_day == pytest.approx(2 * once.log_bytes_per_day)
    assert once.monitor_shards <= twice.monitor_shards <= 2 * once.monitor_shards
    assert once.nodes <= twice.nodes


@given(loads)
def test_the_fitting_sample_makes_one_monitor_enough(load: Load):
    fitted = Load(**{**vars_of(load), "sample": fitting_sample(load) * 0.9999})
    assert plan(fitted).monitor_shards == 1
    assert most_rps_of_one_monitor(fitted) >= load.rps


def vars_of(load: Load) -> dict[str, float]:
    return {name: getattr(load, name) for name in Load.__dataclass_fields__}


def test_a_million_requests_a_second_names_what_breaks():
    need = plan(Load(rps=1e6))
    assert need.replicas == 54
    assert need.monitor_shards == 187
    assert "monitor" in need.limits[0]
    assert "way in" in need.limits[-1]


@pytest.mark.parametrize(
    "wrong", [{"rps": 0}, {"rps": 1, "sample": 0}, {"rps": 1, "catch_up": 0.5}, {"rps": 1, "model_us": -1}]
)
def test_impossible_loads_are_refused(wrong: dict[str, float]):
    with pytest.raises(ValueError, match="must"):
        Load(**wrong)  # type: ignore[arg-type]
