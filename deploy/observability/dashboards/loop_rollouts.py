"""The row of *Loop* about roll-outs: plans that change, versions on their way, and how that ended."""

from __future__ import annotations

from deploy.observability.panels import Panel, Row, pick, total

ROLLOUTS = Row(
    title="Rollouts",
    panels=(
        Panel(
            title="When did traffic plans change?",
            text="Revision of the plan in force; a step is a promotion, a rollback, or a challenger that came or went.",
            unit="short",
            width=12,
            queries=(total(pick("hardcase_plan_revision"), "model", how="max"),),
        ),
        Panel(
            title="Was a challenger taken out?",
            text="Yes: it failed more often than chance explains on a replica, and answers nobody there.",
            unit="bool_yes_no",
            width=12,
            low=0,
            high=1,
            queries=(
                total(
                    pick("hardcase_challenger_tripped"),
                    "model",
                    "version",
                    how="max",
                    missing="no plan names a challenger",
                ),
            ),
        ),
        Panel(
            title="How do roll-outs end?",
            text="New versions by how their roll-outs ended, and those that are under way.",
            width=12,
            unit="short",
            low=0,
            console="/rollouts",
            queries=(
                total(pick("hardcase_rollouts_total"), "state"),
                total(pick("hardcase_rollout"), "state", legend="now {{state}}"),
            ),
        ),
        Panel(
            title="What speaks against the version that is rolled out?",
            text="Evidence as a share of what takes it back, and the share of requests that it has answered.",
            width=12,
            unit="percentunit",
            low=0,
            high=1,
            console="/rollouts",
            queries=(
                total(pick("hardcase_rollout_evidence_ratio"), "metric", how="max"),
                total(pick("hardcase_rollout_exposed_ratio"), how="max", legend="answered by it"),
            ),
        ),
    ),
)
