"""Dashboards: valid for Grafana's schemas, in order by the linter's rules, and every metric they name exists."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from deploy.cli.main import make_app
from deploy.observability.dashboards import boards
from deploy.observability.grafana import dashboard_json
from deploy.observability.panels import PROCESS, known, percentile, pick
from deploy.observability.prometheus import Around, rule_groups
from deploy.observability.rules import Objectives

SCHEMAS = Path(__file__).parent / "grafana-schema"
CONSOLE = "http://console:8080"
DASHBOARDS: dict[str, dict[str, Any]] = {
    board.uid: json.loads(dashboard_json(board, CONSOLE)) for board in boards(Objectives())
}
PANELS = [(uid, panel) for uid, d in DASHBOARDS.items() for panel in d["panels"] if panel["type"] != "row"]
IDS = [f"{uid}:{panel['title']}" for uid, panel in PANELS]
each_panel = pytest.mark.parametrize(("uid", "panel"), PANELS, ids=IDS)


def schema(name: str) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads((SCHEMAS / f"{name}.jsonschema.json").read_text())
    return plain


def validate(value: object, name: str, definition: str) -> None:
    whole = schema(name)
    jsonschema.Draft7Validator({**whole, "$ref": f"#/definitions/{definition}"}).validate(value)


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_the_dashboard_is_what_grafana_publishes_as_its_schema(uid: str) -> None:
    validate(DASHBOARDS[uid], "dashboard", "Dashboard")
    with pytest.raises(jsonschema.ValidationError):  # the negative control: the schema does refuse
        validate(DASHBOARDS[uid] | {"refresh": 10}, "dashboard", "Dashboard")


@each_panel
def test_the_panel_and_its_queries_follow_the_schema_of_their_type(uid: str, panel: dict[str, Any]) -> None:
    validate(panel, "dashboard", "Panel")
    validate(panel.get("options", {}), panel["type"], "Options")
    if panel["type"] == "timeseries":
        validate(panel["fieldConfig"]["defaults"]["custom"], "timeseries", "FieldConfig")
    for target in panel["targets"]:
        validate(target, "prometheus", "Dataquery")


@each_panel
def test_the_panel_asks_a_question_and_says_what_unit_and_where_to_look_further(
    uid: str, panel: dict[str, Any]
) -> None:
    assert panel["title"].endswith("?")
    assert panel["description"].endswith(".")
    units = {d["const"] for d in schema("units")["definitions"].values()}
    assert panel["fieldConfig"]["defaults"]["unit"] in units
    (link,) = panel["links"]
    assert link["url"].startswith(CONSOLE + "/")
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    if panel["type"] == "timeseries":
        assert panel["options"]["legend"]["showLegend"] is True
    assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24


@each_panel
def test_its_queries_have_job_rate_interval_source_and_a_legend(uid: str, panel: dict[str, Any]) -> None:
    assert [t["refId"] for t in panel["targets"]] == list("ABCDEF"[: len(panel["targets"])])
    for target in panel["targets"]:
        expression = target["expr"]
        assert target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert target["legendFormat"]
        assert set(re.findall(r"\[([^]]*)\]", expression)) <= {"$__rate_interval"}
        for name, matchers in re.findall(
            r"\b((?:hardcase|process)_[a-z_]+)(\{[^}]*\})?", re.sub(r"model:\S+", "", expression)
        ):
            if name != "process":
                assert 'job=~"$job"' in matchers, f"{name} in {expression}"
        grouped = {g.strip() for by in re.findall(r"by \(([^)]*)\)", expression) for g in by.split(",")} - {"le"}
        shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        if grouped and "topk" not in expression:
            assert shown <= grouped | {"model"}, f"the legend shows {shown - grouped}, which the query leaves out"


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_panel_ids_are_unique_and_variables_are_there(uid: str) -> None:
    board = DASHBOARDS[uid]
    numbers = [panel["id"] for panel in board["panels"]]
    assert numbers == list(range(1, len(numbers) + 1))
    names = [v["name"] for v in board["templating"]["list"]]
    assert names == ["datasource", "job", *(["model", "version"] if uid == "hardcase-model" else [])]
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(board["panels"]))) - {"__rate_interval"}
    assert used <= set(names)
    places = {(p["gridPos"]["x"], p["gridPos"]["y"]) for p in board["panels"]}
    assert len(places) == len(numbers), "two panels lie on top of each other"


def test_recorded_series_that_panels_show_are_recorded() -> None:
    rules = rule_groups(Objectives(), Around(monitor="m:1", console=CONSOLE))
    recorded = {r["record"] for g in rules["groups"] for r in g["rules"] if "record" in r}
    shown = set(re.findall(r"model:[a-zA-Z0-9_:]+", json.dumps(DASHBOARDS)))
    assert shown
    assert shown <= recorded


def test_a_misspelt_metric_or_label_is_an_error() -> None:
    for wrong in (
        lambda: pick("hardcase_request_total"),
        lambda: pick("hardcase_ready", 'model="m"'),
        lambda: percentile(0.5, "hardcase_queue_rows", "model"),
    ):
        with pytest.raises(KeyError):
            wrong()


# Metrics that no panel shows, each with the reason. The list only shrinks.
NOT_SHOWN = {
    "hardcase_build_info": "a release is no question",
    "hardcase_answer_items": "what a detector found beside the truth; the console's page of the model",
    "hardcase_answer_error_tolerances": "how far a regression misses; the console's page of the model",
    "hardcase_version_batch_seconds": "what it was when loaded; the percentiles say what it is",
    "hardcase_cpu_fallbacks_total": "an alert, and the table of versions has the device",
    "hardcase_cache_bytes": "bounded by a setting",
    "hardcase_shadow_requests_total": "the console's page of the model",
    "hardcase_shadow_waiting_requests": "the console's page of the model",
    "hardcase_shadow_max_abs_difference": "the console's page of the model",
    "hardcase_shadow_passes_total": "the console's page of the model",
    "hardcase_capture_requests_total": "the sum of its records",
    "hardcase_monitor_frames_ingested_total": "records are what counts",
    "hardcase_monitor_cycles_total": "its heartbeat says whether it turns",
    "hardcase_monitor_duty_failing": "an alert; the panel of what fails shows the errors",
    "hardcase_monitor_estimates_due": "its duty's time says it",
    "hardcase_monitor_signals_due": "its duty's time says it",
}


def test_every_metric_is_on_a_dashboard_or_has_a_reason_not_to_be() -> None:
    text = json.dumps(DASHBOARDS)
    missing = {n for n in set(known()) - set(PROCESS) if not re.search(rf"\b{n}(_bucket|_sum|_count)?\b", text)}
    assert missing == set(NOT_SHOWN), "put it on a dashboard (deploy/observability/dashboards), or say here why not"


def test_the_command_writes_provisioning_that_finds_the_dashboards(tmp_path: Path) -> None:
    out = tmp_path / "grafana"
    run = CliRunner().invoke
    done = run(make_app(), ["render", "grafana", "-o", str(out), "--console-url", "https://c/", "--json"])
    assert done.exit_code == 0, done.output
    files = json.loads(done.stdout)["files"]
    assert sum(f.endswith(".json") for f in files) == len(DASHBOARDS)
    source = yaml.safe_load((out / "provisioning/datasources/hardcase.yml").read_text())["datasources"][0]
    assert source["url"] == "http://127.0.0.1:9090"
    assert source["jsonData"]["exemplarTraceIdDestinations"][0]["url"] == "https://c/records/${__value.raw}"
    (provider,) = yaml.safe_load((out / "provisioning/dashboards/hardcase.yml").read_text())["providers"]
    found = sorted(p.name for p in Path(provider["options"]["path"]).glob("*.json"))
    assert found == sorted(f"{uid}.json" for uid in DASHBOARDS)
    assert "https://c/models/${model}" in (out / "dashboards/hardcase-model.json").read_text()
    assert run(make_app(), ["render", "grafana", "-o", str(out)]).exit_code != 0
    said = run(make_app(), ["render", "grafana", "-o", str(out), "--force"]).stdout
    assert "GF_PATHS_PROVISIONING=" in said
