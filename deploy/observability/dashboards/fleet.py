"""*Fleet*: all models at a glance."""

from __future__ import annotations

from deploy.observability.panels import Board, Kind, Panel, Query, Row, Step, percentile, pick, rate, total
from deploy.observability.rules import Objectives

_GOOD_BAD = (Step(above=None, color="green"), Step(above=1, color="red"))
_ANSWERED = 'variant!="shadow"'
_BEST = 'method="best"'
_OPEN = 'state="open"'
_STANDING = 'state=~"firing|recovering"'


def fleet(objectives: Objectives) -> Board:
    """The dashboard; burn rates are relative to the objectives."""
    return Board(
        uid="hardcase-fleet",
        title="Hardcase / Fleet",
        text="All models at a glance: do they answer, in time, and rightly?",
        rows=(_NOW, Row(title="Promises to clients", panels=(*_TRAFFIC, *_burns(objectives))), _ANSWERS),
    )


_NOW = Row(
    title="Now",
    panels=(
        Panel(
            title="How many models are served?",
            text="Models with a traffic plan in force on at least one replica.",
            unit="short",
            kind=Kind.NUMBER,
            width=4,
            height=4,
            queries=(Query(expression=f"count(count by (model) ({pick('hardcase_plan_revision')}))", legend="models"),),
        ),
        Panel(
            title="Does every promoted model answer?",
            text="No: at least one replica has a promoted model without a version that answers.",
            unit="bool_yes_no",
            kind=Kind.NUMBER,
            width=4,
            height=4,
            steps=(Step(above=None, color="red"), Step(above=1, color="green")),
            queries=(total(pick("hardcase_ready"), how="min", legend="ready"),),
        ),
        Panel(
            title="How many replicas answer Prometheus?",
            text="The replicas of all pools that the last scrape reached.",
            unit="short",
            kind=Kind.NUMBER,
            width=4,
            height=4,
            queries=(total(pick("hardcase_ready"), how="count", legend="replicas"),),
        ),
        Panel(
            title="How many requests a second?",
            text="Of all models, without what only a shadow computed.",
            unit="reqps",
            kind=Kind.NUMBER,
            width=4,
            height=4,
            queries=(total(rate("hardcase_requests_total", _ANSWERED), legend="requests"),),
        ),
        Panel(
            title="How many alerts fire?",
            text="Alerts of Hardcase's rules that fire now. The runbook has an entry for each.",
            unit="short",
            kind=Kind.NUMBER,
            width=4,
            height=4,
            steps=_GOOD_BAD,
            queries=(
                Query(
                    expression='count(ALERTS{alertname=~"Hardcase.*",alertstate="firing"}) or vector(0)',
                    legend="alerts",
                ),
            ),
        ),
        Panel(
            title="How far behind is the monitor?",
            text="Age of the newest record that the monitor has read while more wait. Charts and cases are that old.",
            unit="s",
            kind=Kind.NUMBER,
            width=4,
            height=4,
            steps=(Step(above=None, color="green"), Step(above=60, color="orange"), Step(above=300, color="red")),
            queries=(total(pick("hardcase_monitor_lag_seconds"), how="max", legend="lag"),),
        ),
    ),
)

_TRAFFIC = (
    Panel(
        title="How many requests does each model get?",
        text="Requests that reached a loaded version, however they ended; shadows not counted.",
        unit="reqps",
        low=0,
        queries=(total(rate("hardcase_requests_total", _ANSWERED), "model"),),
    ),
    Panel(
        title="How slow are the slowest answers?",
        text="99th percentile of the time from the last byte received to the answer handed to the socket.",
        unit="s",
        low=0,
        queries=(
            Query(
                expression=percentile(0.99, "hardcase_request_total_seconds", "model"),
                legend="{{model}}",
                exemplars=True,
            ),
        ),
    ),
    Panel(
        title="Which share of requests fails?",
        text="Failed, late or turned away through our fault, over 5 minutes. A client's own mistakes do not count.",
        unit="percentunit",
        low=0,
        console="/cases",
        queries=(Query(expression="model:hardcase_request_errors:ratio_rate5m", legend="{{model}}"),),
    ),
)


def _burns(objectives: Objectives) -> tuple[Panel, ...]:
    budgets = (
        (
            "errors",
            "hardcase_request_errors",
            1 - objectives.availability,
            f"{objectives.availability:.4%} must succeed",
        ),
        (
            "slow answers",
            "hardcase_requests_slow",
            1 - objectives.fast,
            f"{objectives.fast:.4%} must be answered within {objectives.latency_s:g} s",
        ),
    )
    return tuple(
        Panel(
            title=f"How fast do {what} use up the budget?",
            text=f"1 uses up a month's budget in a month ({promise}). Pages begin at 14.4 and 6, tickets at 3 and 1.",
            unit="short",
            low=0,
            width=12,
            steps=(
                Step(above=None, color="green"),
                Step(above=1, color="yellow"),
                Step(above=6, color="orange"),
                Step(above=14.4, color="red"),
            ),
            queries=(
                Query(expression=f"model:{metric}:ratio_rate1h / {budget:.6g}", legend="{{model}} over 1 h"),
                Query(expression=f"model:{metric}:ratio_rate3d / {budget:.6g}", legend="{{model}} over 3 d"),
            ),
        )
        for what, metric, budget, promise in budgets
    )


_ANSWERS = Row(
    title="Right or wrong?",
    panels=(
        Panel(
            title="How accurate is each model now?",
            text="The estimate that the console shows: from audited labels where there are enough, else without labels,"
            " which does not see concept drift.",
            unit="percentunit",
            high=1,
            queries=(total(pick("hardcase_accuracy_estimate", _BEST), "model", "version", how="max"),),
        ),
        Panel(
            title="Which share of requests looks like a failure?",
            text="Records flagged by scores or rules, each reason counted, against all records read.",
            unit="percentunit",
            low=0,
            console="/cases",
            queries=(
                Query(
                    expression=f"sum by (model) ({rate('hardcase_monitor_flagged_records_total')}) / on (model) "
                    f"sum by (model) ({rate('hardcase_requests_total')})",
                    legend="{{model}}",
                ),
            ),
        ),
        Panel(
            title="How many cases wait for a reviewer?",
            text="Open cases; one with two reasons counts under both.",
            unit="short",
            low=0,
            console="/cases?state=open",
            queries=(total(pick("hardcase_cases", _OPEN), "model"),),
        ),
        Panel(
            title="Which model has an open alarm?",
            text="Yes: audited labels prove that it errs more than it may. This pages; nothing else about models does.",
            unit="bool_yes_no",
            low=0,
            high=1,
            console="/alarms",
            queries=(total(pick("hardcase_alarm", _STANDING), "model", how="max"),),
        ),
        Panel(
            title="How many of a model's signals have moved?",
            text="Drift signals above their threshold. They are drawn and never page: moved is not broken.",
            unit="short",
            low=0,
            queries=(
                Query(
                    expression=f"sum by (model, version) ({pick('hardcase_drift_signal')} > bool "
                    f"{pick('hardcase_drift_signal_threshold')})",
                    legend="{{model}} {{version}}",
                ),
            ),
        ),
        Panel(
            title="Is another version answering than the plan says?",
            text="Yes: the planned champion is not READY somewhere, and the one before it goes on answering.",
            unit="bool_yes_no",
            low=0,
            high=1,
            queries=(total(pick("hardcase_champion_behind"), "model", how="max"),),
        ),
    ),
)
