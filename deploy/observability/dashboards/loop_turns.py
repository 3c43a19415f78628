"""The row of *Loop* about retraining: what policies decide, where turns stand, and how they end."""

from __future__ import annotations

from deploy.observability.panels import Panel, Query, Row, pick, rate

NEVER = "no model is registered"
RETRAINING = Row(
    title="Retraining",
    panels=(
        Panel(
            title="Where does each model stand?",
            text="The stage of the running turn of the loop; nothing while none runs.",
            unit="short",
            low=0,
            console="/loop",
            queries=(
                Query(
                    expression=f"sum by (model, stage) ({pick('hardcase_training_stage')}) > 0",
                    legend="{{model}}: {{stage}}",
                    may_be_empty="no turn runs",
                ),
                Query(
                    expression=f"max by (model) ({pick('hardcase_training_progress_ratio')})",
                    legend="{{model}}: progress",
                    may_be_empty="no training runs, or its trainer says nothing",
                ),
            ),
        ),
        Panel(
            title="How do turns end?",
            text="Turns of the loop by their end, since the database was made.",
            unit="short",
            low=0,
            console="/loop",
            queries=(
                Query(
                    expression=f"sum by (outcome) ({pick('hardcase_trainings_total')})",
                    legend="{{outcome}}",
                    may_be_empty=NEVER,
                ),
            ),
        ),
        Panel(
            title="What do the policies decide?",
            text="Looks of the trigger policies in a second, by what they decided.",
            unit="ops",
            low=0,
            console="/loop",
            queries=(
                Query(
                    expression=f"sum by (decision) ({rate('hardcase_trigger_decisions_total')})",
                    legend="{{decision}}",
                    may_be_empty=NEVER,
                ),
            ),
        ),
    ),
)
