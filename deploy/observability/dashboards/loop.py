"""*Loop*: from the record log to cases and rollouts."""

from __future__ import annotations

from deploy.observability.dashboards.loop_review import PEOPLE
from deploy.observability.dashboards.loop_rollouts import ROLLOUTS
from deploy.observability.dashboards.loop_turns import RETRAINING
from deploy.observability.panels import Board, Panel, Query, Row, Step, pick, rate, total

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
            queries=(total(rate("hardcase_monitor_records_ingested_total"), legend="records"),),
        ),
        Panel(
            title="How far behind is it?",
            text="Age of the newest record read while more wait.",
            unit="s",
            low=0,
            steps=(Step(above=None, color="green"), Step(above=300, color="red")),
            queries=(total(pick("hardcase_monitor_lag_seconds"), how="max", legend="lag"),),
        ),
        Panel(
            title="How much waits in the log?",
            text="Bytes that are not read yet.",
            unit="bytes",
            low=0,
            queries=(total(pick("hardcase_monitor_lag_bytes"), how="max", legend="waiting"),),
        ),
        Panel(
            title="Does the loop turn?",
            text="Time since the end of the last cycle, and how long that cycle took.",
            unit="s",
            low=0,
            queries=(
                total(pick("hardcase_monitor_heartbeat_age_seconds"), how="max", legend="since the last"),
                total(pick("hardcase_monitor_cycle_seconds"), how="max", legend="the last took"),
            ),
        ),
        Panel(
            title="How long do the duties take?",
            text="The last turn of each periodic duty.",
            unit="s",
            low=0,
            queries=(total(pick("hardcase_monitor_duty_seconds"), "duty", how="max"),),
        ),
        Panel(
            title="What fails in the monitor?",
            text="Cycles and turns of duties that failed and were tried again.",
            unit="ops",
            low=0,
            queries=(
                total(rate("hardcase_monitor_duty_errors_total"), "duty"),
                total(rate("hardcase_monitor_cycle_errors_total"), legend="cycles"),
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
            queries=(total(pick("hardcase_cases"), "state"),),
        ),
        Panel(
            title="Why were cases opened?",
            text="By reason. Audit cases are drawn uniformly at random: only they give unbiased accuracy.",
            unit="short",
            low=0,
            console="/cases",
            queries=(total(pick("hardcase_cases"), "model", "reason", legend="{{model}}: {{reason}}"),),
        ),
        Panel(
            title="How right were the labelled answers?",
            text="Share of labelled rows of the last labelled window that were right. Labels may be a biased sample.",
            unit="percentunit",
            high=1,
            console="/cases?state=labelled",
            queries=(total(pick("hardcase_accuracy_labelled"), "model", "version", how="max"),),
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
                total(
                    pick("hardcase_audit_labels"),
                    "model",
                    "use",
                    legend="{{model}}: {{use}}",
                    missing="no audit case has a label",
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
                total(
                    pick("hardcase_accuracy_audited_labels"),
                    "model",
                    "version",
                    how="max",
                    missing="no window has an estimate",
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
            queries=(total(pick("hardcase_records"), "account"),),
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
                total(pick("hardcase_monitor_log_damages"), how="max", legend="damages"),
                total(pick("hardcase_monitor_dead_letters"), "reason", missing="nothing was unreadable"),
            ),
        ),
    ),
)

LOOP = Board(
    uid="hardcase-loop",
    title="Hardcase / Loop",
    text="From records to cases, labels and rollouts.",
    rows=(_INGEST, _QUEUE, PEOPLE, _AUDIT, _ACCOUNT, RETRAINING, ROLLOUTS),
)
