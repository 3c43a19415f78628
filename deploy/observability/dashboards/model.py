"""*Model*: one model from traffic to failures."""

from __future__ import annotations

from deploy.observability.dashboards.model_beside import CHALLENGER, EVIDENTLY, SLICES
from deploy.observability.panels import Board, Panel, Query, Row, Step, mean, percentile, pick, rate, total

_CONSOLE = "/models/${model}"
_CASES = "/cases?model=${model}"
_BEST, _NOT_BEST = 'method="best"', 'method!="best"'
_LATENCY = "hardcase_request_total_seconds"

_TRAFFIC = Row(
    title="Traffic",
    panels=(
        Panel(
            title="Which versions answer how much?",
            text="Requests by version and by the part that it plays: champion, canary, shadow, or asked for by name.",
            unit="reqps",
            low=0,
            stacked=True,
            console=_CONSOLE,
            queries=(
                total(
                    rate("hardcase_requests_total", model=True),
                    "version",
                    "variant",
                    legend="{{version}} as {{variant}}",
                ),
            ),
        ),
        Panel(
            title="How do requests end?",
            text="By outcome. failed, deadline and rejected are our fault; invalid and cancelled the client's.",
            unit="reqps",
            low=0,
            console=_CASES,
            queries=(total(rate("hardcase_requests_total", model=True), "outcome", exemplars=True),),
        ),
        Panel(
            title="How long do answers take?",
            text="Percentiles of the time from the last byte received to the answer. Points lead to single records.",
            unit="s",
            low=0,
            console=_CONSOLE,
            queries=tuple(
                Query(expression=percentile(share, _LATENCY, "version", model=True), legend=name, exemplars=share > 0.9)
                for share, name in (
                    (0.5, "median, {{version}}"),
                    (0.95, "p95, {{version}}"),
                    (0.99, "p99, {{version}}"),
                )
            ),
        ),
        Panel(
            title="Where does the time go?",
            text="Means: waiting for a batch, and the batch itself.",
            unit="s",
            low=0,
            width=12,
            console=_CONSOLE,
            queries=tuple(
                Query(expression=mean(f"hardcase_request_{part}_seconds", "version", model=True), legend=legend)
                for part, legend in (("queue", "waiting, {{version}}"), ("compute", "computing, {{version}}"))
            ),
        ),
        Panel(
            title="How many rows are answered?",
            text="A request may carry several rows.",
            unit="rowsps",
            low=0,
            width=12,
            console=_CONSOLE,
            queries=(total(rate("hardcase_rows_total", model=True), "version"),),
        ),
    ),
)

_ACCURACY = Row(
    title="Right or wrong?",
    panels=(
        Panel(
            title="How accurate is it now?",
            text="The estimate that the console shows, with its interval, and the share of labelled answers that were"
            " right. Estimates without labels do not see concept drift.",
            unit="percentunit",
            high=1,
            console=_CONSOLE,
            queries=(
                *(
                    Query(
                        expression=f"max by (version) ({pick(f'hardcase_accuracy_estimate{end}', _BEST, model=True)})",
                        legend=legend,
                        may_be_empty="the method has no interval, or there are too few labels" if end else "",
                    )
                    for end, legend in (
                        ("", "estimate, {{version}}"),
                        ("_lower", "at least, {{version}}"),
                        ("_upper", "at most, {{version}}"),
                    )
                ),
                total(
                    pick("hardcase_accuracy_labelled", model=True), "version", how="max", legend="labelled, {{version}}"
                ),
            ),
        ),
        Panel(
            title="Do the methods agree?",
            text="The same accuracy by every method: audited labels, confidence, threshold transfer.",
            unit="percentunit",
            high=1,
            console=_CONSOLE,
            queries=(
                Query(
                    expression="max by (version, method) "
                    f"({pick('hardcase_accuracy_estimate', _NOT_BEST, model=True)})",
                    legend="{{method}}, {{version}}",
                ),
            ),
        ),
        Panel(
            title="Which records are flagged, and why?",
            text="By scores and rules. Points lead to single records.",
            unit="ops",
            low=0,
            console=_CASES,
            queries=(total(rate("hardcase_monitor_flagged_records_total", model=True), "reason", exemplars=True),),
        ),
        Panel(
            title="Which cases are there?",
            text="Failure cases by reason, in every state; one with two reasons counts under both.",
            unit="short",
            low=0,
            console=_CASES,
            queries=(total(pick("hardcase_cases", model=True), "reason"),),
        ),
    ),
)

_ALARMS = Row(
    title="Alarms",
    panels=(
        Panel(
            title="In which state are its alarms?",
            text="By promise: lifetime is wrong with a small probability ever, run_length once in so many labels."
            " recovering is still open.",
            unit="bool_yes_no",
            low=0,
            high=1,
            width=8,
            console="/alarms?model=${model}",
            queries=(
                total(
                    pick("hardcase_alarm", model=True), "promise", "state", how="max", legend="{{promise}}: {{state}}"
                ),
            ),
        ),
        Panel(
            title="How strong is the evidence?",
            text="Evidence of the audited labels as a share of what it takes to fire. It jumps when wrong answers are"
            " audited, and sinks while right ones are.",
            unit="percentunit",
            low=0,
            width=8,
            console="/alarms?model=${model}",
            steps=(Step(above=None, color="green"), Step(above=1, color="red")),
            queries=(
                Query(
                    expression=f"max by (promise) ({pick('hardcase_alarm_evidence', model=True)}"
                    f" / {pick('hardcase_alarm_threshold', model=True)})",
                    legend="{{promise}}",
                    may_be_empty="no audited label has counted yet",
                ),
            ),
        ),
        Panel(
            title="Has somebody silenced them?",
            text="A silence in the console has an author, a reason and an end; while it lasts, nobody is paged.",
            unit="bool_yes_no",
            low=0,
            high=1,
            width=8,
            console="/alarms?model=${model}",
            queries=(total(pick("hardcase_alarm_silenced", model=True), "promise", how="max"),),
        ),
    ),
)

_DRIFT = Row(
    title="What has moved?",
    panels=(
        Panel(
            title="Which signals are furthest beyond chance?",
            text="Distance from the reference relative to its threshold, the ten largest. Above 1 is more than chance"
            " and the floor explain. Signals are drawn and never page: moved is not broken.",
            unit="short",
            low=0,
            width=12,
            console=_CONSOLE,
            steps=(Step(above=None, color="green"), Step(above=1, color="orange")),
            queries=(
                Query(
                    expression=f"topk(10, {pick('hardcase_drift_signal', model=True)}"
                    f" / {pick('hardcase_drift_signal_threshold', model=True)})",
                    legend="{{subject}} ({{method}}, {{version}})",
                ),
            ),
        ),
        Panel(
            title="What kind of thing has moved?",
            text="Signals above their threshold, by what they watch: input descriptors, features, predictions, scores,"
            " embedding.",
            unit="short",
            low=0,
            width=12,
            console=_CONSOLE,
            queries=(
                Query(
                    expression=f"sum by (kind) ({pick('hardcase_drift_signal', model=True)} > bool "
                    f"{pick('hardcase_drift_signal_threshold', model=True)})",
                    legend="{{kind}}",
                ),
            ),
        ),
    ),
)

MODEL = Board(
    uid="hardcase-model",
    title="Hardcase / Model",
    text="One model: traffic, latency, accuracy, drift, failures, challenger.",
    models=True,
    rows=(_TRAFFIC, _ACCURACY, _ALARMS, _DRIFT, SLICES, Row(title="Evidently", panels=(EVIDENTLY,)), CHALLENGER),
)
