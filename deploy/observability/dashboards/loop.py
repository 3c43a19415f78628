"""*Loop*: from the record log to cases and rollouts."""

from __future__ import annotations

from deploy.observability.dashboards.loop_review import PEOPLE
from deploy.observability.dashboards.loop_turns import RETRAINING
from deploy.observability.panels import Board, Panel, Query, Row, Step, pick, rate

_REQUESTS = 'account="requests"'
_BECAME = 'account=~"captured|sampled_out|lost|dropped_.*"'

_INGEST = Row(
    title="Monitor",
    panels=(
        Panel(
            title="How many records does the monitor read?",
            text="Records consumed from the log in a second.",
            unit="ops",
            low=0,
            queries=(Query(expression=f"sum({rate('hardcase_monitor_records_ingested_total')})", legend="records"),),
        ),
        Panel(
            title="How far behind is it?",
            text="Age of the newest record read while more wait.",
            unit="s",
            low=0,
            steps=(Step(above=None, color="green"), Step(above=300, color="red")),
            queries=(Query(expression=f"max({pick('hardcase_monitor_lag_seconds')})", legend="lag"),),
        ),
        Panel(
            title="How much waits in the log?",
            text="Bytes that are not read yet.",
            unit="bytes",
            low=0,
            queries=(Query(expression=f"max({pick('hardcase_monitor_lag_bytes')})", legend="waiting"),),
        ),
        Panel(
            title="Does the loop turn?",
            text="Time since the end of the last cycle, and how long that cycle took.",
            unit="s",
            low=0,
            queries=(
                Query(expression=f"max({pick('hardcase_monitor_heartbeat_age_seconds')})", legend="since the last"),
                Query(expression=f"max({pick('hardcase_monitor_cycle_seconds')})", legend="the last took"),
            ),
        ),
        Panel(
            title="How long do the duties take?",
            text="The last turn of each periodic duty.",
            unit="s",
            low=0,
            queries=(Query(expression=f"max by (duty) ({pick('hardcase_monitor_duty_seconds')})", legend="{{duty}}"),),
        ),
        Panel(
            title="What fails in the monitor?",
            text="Cycles and turns of duties that failed and were tried again.",
            unit="ops",
            low=0,
            queries=(
                Query(
                    expression=f"sum by (duty) ({rate('hardcase_monitor_duty_errors_total')})",
                    legend="{{duty}}",
                ),
                Query(expression=f"sum({rate('hardcase_monitor_cycle_errors_total')})", legend="cycles"),
            ),
        ),
    ),
)

_QUEUE = Row(
    title="Review",
    panels=(
        Panel(
            title="How many cases are in which state?",
            text="From open to labelled or dismissed; one with two reasons counts under both.",
            unit="short",
            low=0,
            stacked=True,
            console="/cases",
            queries=(Query(expression=f"sum by (state) ({pick('hardcase_cases')})", legend="{{state}}"),),
        ),
        Panel(
            title="Why were cases opened?",
            text="By reason. Audit cases are drawn uniformly at random: only they give unbiased accuracy.",
            unit="short",
            low=0,
            console="/cases",
            queries=(
                Query(expression=f"sum by (model, reason) ({pick('hardcase_cases')})", legend="{{model}}: {{reason}}"),
            ),
        ),
        Panel(
            title="How right were the labelled answers?",
            text="Share of labelled rows of the last labelled window that were right. Labels may be a biased sample.",
            unit="percentunit",
            high=1,
            console="/cases?state=labelled",
            queries=(
                Query(
                    expression=f"max by (model, version) ({pick('hardcase_accuracy_labelled')})",
                    legend="{{model}} {{version}}",
                ),
            ),
        ),
    ),
)

_AUDIT = Row(
    title="Audit",
    panels=(
        Panel(
            title="What became of the audit's labels?",
            text="Labels of cases that were drawn at random: counted in the evidence, waiting for it, or set aside.",
            unit="short",
            low=0,
            width=12,
            console="/alarms",
            queries=(
                Query(
                    expression=f"sum by (model, use) ({pick('hardcase_audit_labels')})",
                    legend="{{model}}: {{use}}",
                    may_be_empty="no audit case has a label",
                ),
            ),
        ),
        Panel(
            title="How many audited labels stand behind the estimate?",
            text="Also where they are too few for one.",
            unit="short",
            low=0,
            width=12,
            queries=(
                Query(
                    expression=f"max by (model, version) ({pick('hardcase_accuracy_audited_labels')})",
                    legend="{{model}} {{version}}",
                    may_be_empty="no window has an estimate",
                ),
            ),
        ),
    ),
)

_ACCOUNT = Row(
    title="Account",
    panels=(
        Panel(
            title="Where did the requests go?",
            text="requests is the sum of captured, sampled_out, dropped_… and lost. ingested: read by the monitor.",
            unit="short",
            low=0,
            queries=(Query(expression=f"sum by (account) ({pick('hardcase_records')})", legend="{{account}}"),),
        ),
        Panel(
            title="Which requests are not accounted for?",
            text="requests less everything that became of them, known logs only. It is 0, or grows and shrinks while"
            " records are under way.",
            unit="short",
            queries=(
                Query(
                    expression=f"sum({pick('hardcase_records', _REQUESTS)}) - sum({pick('hardcase_records', _BECAME)})",
                    legend="unexplained",
                ),
            ),
        ),
        Panel(
            title="What could not be read?",
            text="Places of the log that do not verify, and records kept aside, by reason.",
            unit="short",
            low=0,
            queries=(
                Query(expression=f"max({pick('hardcase_monitor_log_damages')})", legend="damages"),
                Query(
                    expression=f"sum by (reason) ({pick('hardcase_monitor_dead_letters')})",
                    legend="{{reason}}",
                    may_be_empty="nothing was unreadable",
                ),
            ),
        ),
    ),
)

_ROLLOUTS = Row(
    title="Rollouts",
    panels=(
        Panel(
            title="When did traffic plans change?",
            text="Revision of the plan in force; a step is a promotion, a rollback, or a challenger that came or went.",
            unit="short",
            width=12,
            queries=(Query(expression=f"max by (model) ({pick('hardcase_plan_revision')})", legend="{{model}}"),),
        ),
        Panel(
            title="Was a challenger taken out?",
            text="Yes: it failed more often than chance explains on a replica, and answers nobody there.",
            unit="bool_yes_no",
            width=12,
            low=0,
            high=1,
            queries=(
                Query(
                    expression=f"max by (model, version) ({pick('hardcase_challenger_tripped')})",
                    legend="{{model}} {{version}}",
                    may_be_empty="no plan names a challenger",
                ),
            ),
        ),
    ),
)

LOOP = Board(
    uid="hardcase-loop",
    title="Hardcase / Loop",
    text="From records to cases, labels and rollouts.",
    rows=(_INGEST, _QUEUE, PEOPLE, _AUDIT, _ACCOUNT, RETRAINING, _ROLLOUTS),
)
