"""What `hardcase render grafana` writes: a data source, the dashboards, and how Grafana finds both.

Dashboards are built with Grafana's own typed builders from `deploy.observability.panels`. The builders leave legends
hidden and panels without ids unless told otherwise; here both are always set.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from deploy.observability.dashboards import boards
from deploy.observability.panels import Board, Kind, Panel, Query
from deploy.observability.rules import Objectives

with warnings.catch_warnings():
    # The builders prefer their second schema, which only the newest servers read from files; all read this one.
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.builders import common as common_builders
    from grafana_foundation_sdk.builders import dashboard as builders
    from grafana_foundation_sdk.builders import prometheus, stat, table, timeseries
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models import common, dashboard
    from grafana_foundation_sdk.models import prometheus as prometheus_models

VERSION = "12"  # the first release with schemaVersion 42
SOURCE = common.DataSourceRef(type_val="prometheus", uid="${datasource}")
DATASOURCE_UID = "hardcase-prometheus"
AnyPanel: TypeAlias = timeseries.Panel | stat.Panel | table.Panel


def dashboard_json(board: Board, console: str) -> str:
    """A dashboard as Grafana reads it.

    Args:
        board: What is on it.
        console: URL that links to the console begin with.
    """
    made = (
        builders.Dashboard(board.title)
        .uid(board.uid)
        .description(board.text)
        .tags(["hardcase"])
        .timezone("browser")
        .time("now-1h", "now")
        .refresh("10s")
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR)
        .link(_link("Console", console + "/"))
        .link(
            builders.DashboardLink("Hardcase")
            .type(dashboard.DashboardLinkType.DASHBOARDS)
            .tags(["hardcase"])
            .as_dropdown(True)
            .keep_time(True)
        )
        .annotation(_firing())
    )
    for variable in _variables(board):
        made.with_variable(variable)
    ids = count(1)
    for row in board.rows:
        made.with_row(builders.Row(row.title).id(next(ids)))
        for panel in row.panels:
            made.with_panel(_panel(panel, next(ids), console))
    return JSONEncoder(sort_keys=True, indent=1).encode(made.build()) + "\n"


def _variables(board: Board) -> Iterator[builders.DatasourceVariable | builders.QueryVariable]:
    yield builders.DatasourceVariable("datasource").label("Prometheus").type("prometheus")
    everything = dashboard.VariableOption(selected=True, text="All", value="$__all")
    yield (
        _choice("job", "Job", 'label_values(up{job=~"hardcase.*"}, job)')
        .multi(True)
        .include_all(True)
        .all_value("hardcase.*")
        .current(everything)
    )
    if board.models:
        yield _choice("model", "Model", 'label_values(hardcase_requests_total{job=~"$job"}, model)')
        yield (
            _choice("version", "Version", 'label_values(hardcase_requests_total{job=~"$job",model="$model"}, version)')
            .multi(True)
            .include_all(True)
            .all_value(".*")
            .current(everything)
        )


def _choice(name: str, label: str, query: str) -> builders.QueryVariable:
    return (
        builders.QueryVariable(name)
        .label(label)
        .query(query)
        .definition(query)
        .datasource(SOURCE)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.NATURAL_ASC)
    )


def _firing() -> builders.AnnotationQuery:
    expression = 'ALERTS{alertname=~"Hardcase.*",alertstate="firing",severity="page"}'
    return builders.AnnotationQuery().name("Pages").datasource(SOURCE).enable(True).icon_color("red").expr(expression)


def _panel(panel: Panel, number: int, console: str) -> AnyPanel:
    made: AnyPanel
    if panel.kind is Kind.LINES:
        made = _lines(panel)
    elif panel.kind is Kind.NUMBER:
        made = stat.Panel().graph_mode(common.BigValueGraphMode.AREA).reduce_options(_last())
    else:
        made = table.Panel().with_transformation(
            dashboard.DataTransformerConfig(id_val="organize", options={"excludeByName": {"Time": True}})
        )
    made = (
        made.id(number)
        .title(panel.title)
        .description(panel.text)
        .unit(panel.unit)
        .datasource(SOURCE)
        .span(panel.width)
        .height(panel.height)
        .no_value("no data yet")
        .links([_link("Open in the console", console + panel.console)])
    )
    for number_, query in enumerate(panel.queries):
        made = made.with_target(_target(query, chr(ord("A") + number_), panel.kind))
    if panel.steps:
        steps = [dashboard.Threshold(value=step.above, color=step.color) for step in panel.steps]
        made = made.thresholds(builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps))
    if panel.low is not None:
        made = made.min(panel.low)
    if panel.high is not None:
        made = made.max(panel.high)
    if panel.decimals is not None:
        made = made.decimals(panel.decimals)
    return made


def _lines(panel: Panel) -> timeseries.Panel:
    legend = common_builders.VizLegendOptions().display_mode(common.LegendDisplayMode.LIST)
    tooltip = common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI)
    made = (
        timeseries.Panel()
        .legend(legend.placement(common.LegendPlacement.BOTTOM).show_legend(True).calcs([]))
        .tooltip(tooltip.sort(common.SortOrder.DESCENDING))
        .line_width(1)
        .fill_opacity(35 if panel.stacked else 8)
        .show_points(common.VisibilityMode.NEVER)
    )
    if panel.stacked:
        made.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    if panel.steps:
        made.thresholds_style(common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED))
    return made


def _last() -> common_builders.ReduceDataOptions:
    return common_builders.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def _target(query: Query, ref: str, kind: Kind) -> prometheus.Dataquery:
    made = (
        prometheus.Dataquery()
        .ref_id(ref)
        .datasource(SOURCE)
        .expr(query.expression)
        .legend_format(query.legend)
        .editor_mode(prometheus_models.QueryEditorMode.CODE)
    )
    if query.exemplars:
        made.exemplar(True)
    if kind is Kind.TABLE:
        return made.instant().format(prometheus_models.PromQueryFormat.TABLE)
    return made.range()


def _link(title: str, url: str) -> builders.DashboardLink:
    return builders.DashboardLink(title).type(dashboard.DashboardLinkType.LINK).url(url).target_blank(True)


def datasources(url: str, console: str) -> dict[str, Any]:
    """Provisioning of the data source; a record's exemplar leads to the console."""
    exemplar = {"name": "record_id", "url": f"{console}/records/${{__value.raw}}", "urlDisplayLabel": "Open the record"}
    return {
        "apiVersion": 1,
        "datasources": [
            {
                "name": "Hardcase",
                "uid": DATASOURCE_UID,
                "type": "prometheus",
                "access": "proxy",
                "url": url,
                "isDefault": True,
                "jsonData": {
                    "httpMethod": "POST",
                    "timeInterval": "10s",
                    "prometheusType": "Prometheus",
                    "exemplarTraceIdDestinations": [exemplar],
                },
            }
        ],
    }


def provider(folder: Path) -> dict[str, Any]:
    """Provisioning of the dashboards."""
    return {
        "apiVersion": 1,
        "providers": [
            {
                "name": "Hardcase",
                "folder": "Hardcase",
                "type": "file",
                "disableDeletion": True,
                "allowUiUpdates": False,
                "options": {"path": str(folder), "foldersFromFilesStructure": False},
            }
        ],
    }


def write_grafana(folder: Path, *, prometheus: str, console: str, objectives: Objectives) -> list[str]:
    """Write provisioning and dashboards.

    Args:
        folder: Where to.
        prometheus: URL of Prometheus as Grafana reaches it.
        console: URL that links to the console begin with.
        objectives: For the panels about budgets.

    Returns:
        Names of the files, relative to the folder.
    """
    place = folder / "dashboards"
    head = "# Written by `hardcase render grafana`; run it again after an upgrade.\n"
    files = {
        "provisioning/datasources/hardcase.yml": head
        + yaml.safe_dump(datasources(prometheus, console), sort_keys=False),
        "provisioning/dashboards/hardcase.yml": head + yaml.safe_dump(provider(place.resolve()), sort_keys=False),
    }
    files |= {f"dashboards/{board.uid}.json": dashboard_json(board, console) for board in boards(objectives)}
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(files)


def start_hint(folder: Path) -> str:
    """How to start Grafana so that it shows the dashboards."""
    return f"GF_PATHS_PROVISIONING={(folder / 'provisioning').resolve()} grafana server --homepath /usr/share/grafana"
