"""*Model*, further down: what stands beside the champion, and Evidently's view."""

from __future__ import annotations

from deploy.observability.panels import Kind, Panel, Query, Row, pick, rate, total

_CONSOLE = "/models/${model}"

SLICES = Row(
    title="Slices",
    panels=tuple(
        Panel(
            title=title,
            text=text,
            unit=unit,
            low=0,
            width=12,
            console=_CONSOLE,
            queries=(
                Query(
                    expression=f"topk(10, {pick(name, model=True)})",
                    legend="{{slice}}",
                    may_be_empty="no slice was found",
                ),
            ),
        )
        for title, name, unit, text in (
            (
                "In which slices does it fail most?",
                "hardcase_slice_failure_rate",
                "percentunit",
                "Share of a slice's requests that fail, from labels or expected, in the newest search; the ten worst.",
            ),
            (
                "How large are these slices?",
                "hardcase_slice_requests",
                "short",
                "Requests in a slice over the newest search, of the worst slices; the ten largest.",
            ),
        )
    ),
)

EVIDENTLY = Panel(
    title="What does Evidently say about the columns?",
    text="The distance of each column in its newest report, relative to the threshold that the report names; the ten"
    " largest. It informs and never pages.",
    unit="short",
    low=0,
    width=24,
    console="/reports",
    queries=(
        Query(
            expression=f"topk(10, {pick('hardcase_evidently_column_drift', model=True)}"
            f" / {pick('hardcase_evidently_column_drift_threshold', model=True)})",
            legend="{{column}} ({{method}}, {{version}})",
            may_be_empty="no report was made yet",
        ),
    ),
)

CHALLENGER = Row(
    title="Challenger",
    panels=(
        Panel(
            title="Is the challenger on duty?",
            text="No: it is loading, refused, or taken out.",
            unit="bool_yes_no",
            low=0,
            high=1,
            console=_CONSOLE,
            queries=(
                total(
                    pick("hardcase_challenger_on_duty", model=True),
                    "version",
                    "mode",
                    how="min",
                    legend="{{version}} as {{mode}}",
                    missing="the plan names no challenger",
                ),
            ),
        ),
        Panel(
            title="How often do shadow and champion differ?",
            text="Share of compared rows, by kind of difference.",
            unit="percentunit",
            low=0,
            console=_CONSOLE,
            queries=(
                Query(
                    expression="sum by (version, difference) "
                    f"({rate('hardcase_shadow_different_rows_total', model=True)}) / on (version) group_left "
                    f"sum by (version) ({rate('hardcase_shadow_rows_total', model=True)})",
                    legend="{{version}}: {{difference}}",
                    may_be_empty="the plan names no shadow",
                ),
            ),
        ),
        Panel(
            title="Which canary requests did the champion take over?",
            text="Requests of the canary's share that the champion answered, by reason.",
            unit="reqps",
            low=0,
            console=_CONSOLE,
            queries=(
                total(
                    rate("hardcase_canary_fallbacks_total", model=True),
                    "version",
                    "reason",
                    legend="{{version}}: {{reason}}",
                    missing="the plan names no canary",
                ),
            ),
        ),
        Panel(
            title="What runs each version, and where?",
            text="Versions in memory with runtime, device and execution provider.",
            unit="short",
            kind=Kind.TABLE,
            width=24,
            height=5,
            console=_CONSOLE,
            queries=(
                Query(
                    expression="count by (version, runtime, device, provider) "
                    f"({pick('hardcase_version_info', model=True)})",
                    legend="{{version}} {{runtime}} {{device}} {{provider}}",
                ),
            ),
        ),
    ),
)
