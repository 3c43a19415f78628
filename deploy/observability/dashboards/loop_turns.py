"""The row of *Loop* about retraining: what policies decide, where turns stand, and how they end."""

from __future__ import annotations

from deploy.observability.panels import Panel, Query, Row, pick, rate, total

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
                total(
                    pick("hardcase_training_progress_ratio"),
                    "model",
                    how="max",
                    legend="{{model}}: progress",
                    missing="no training runs, or its trainer says nothing",
                ),
            ),
        ),
        Panel(
            title="How do turns end?",
            text="Turns of the loop by their end, since the database was made.",
            unit="short",
            low=0,
            console="/loop",
            queries=(total(pick("hardcase_trainings_total"), "outcome", missing=NEVER),),
        ),
        Panel(
            title="What do the policies decide?",
            text="Looks of the trigger policies in a second, by what they decided.",
            unit="ops",
            low=0,
            console="/loop",
            queries=(total(rate("hardcase_trigger_decisions_total"), "decision", missing=NEVER),),
        ),
    ),
)
