"""The row of *Loop* about people: what they decide, whether they agree, and the tools in which they label."""

from __future__ import annotations

from deploy.observability.panels import Panel, Query, Row, pick, rate, total

PEOPLE = Row(
    title="People",
    panels=(
        Panel(
            title="How many cases wait, and how many are being looked at?",
            text="Cases that wait for a reviewer, and those that somebody has taken.",
            unit="short",
            low=0,
            console="/review",
            queries=(
                total(pick("hardcase_review_waiting_cases"), "model", missing="no case waits"),
                total(pick("hardcase_review_leased_cases"), how="max", legend="taken"),
            ),
        ),
        Panel(
            title="How fast is the queue worked off?",
            text="Decisions in a second by verdict, cases taken, decisions taken back, and those that came second.",
            unit="ops",
            low=0,
            console="/audit",
            queries=(
                total(rate("hardcase_review_decisions_total"), "verdict", missing="nobody has decided anything"),
                total(rate("hardcase_review_leases_total"), legend="taken"),
                total(rate("hardcase_review_undone_cases_total"), legend="undone"),
                total(rate("hardcase_review_conflicts_total"), legend="conflicts"),
            ),
        ),
        Panel(
            title="Do reviewers agree?",
            text="Over pairs of opinions on one case: the share that agree, and Cohen's kappa (0 is chance).",
            unit="percentunit",
            high=1,
            queries=tuple(
                Query(
                    expression=f"max({pick(f'hardcase_review_agreement_{name}')})",
                    legend=name,
                    may_be_empty="no case has two opinions",
                )
                for name in ("ratio", "kappa")
            ),
        ),
        Panel(
            title="What do people do about slices?",
            text="Slices by state, and how many are over the limit of their alert.",
            unit="short",
            low=0,
            console="/slices",
            queries=(
                total(pick("hardcase_slices"), "state", missing="no slice was found"),
                total(pick("hardcase_slice_alerts_firing"), legend="over their limit", missing="no slice was found"),
            ),
        ),
        Panel(
            title="What lies in the labelling tools?",
            text="Cases by what became of them there, and how long a tool has not answered.",
            unit="short",
            low=0,
            console="/settings",
            queries=(
                total(
                    pick("hardcase_integration_tasks"),
                    "tool",
                    "state",
                    legend="{{tool}}: {{state}}",
                    missing="no labelling tool is configured",
                ),
                total(
                    pick("hardcase_integration_failing_seconds"),
                    "tool",
                    how="max",
                    legend="{{tool}}: seconds without an answer",
                    missing="no labelling tool is configured",
                ),
            ),
        ),
        Panel(
            title="What goes to the labelling tools and comes back?",
            text="Tasks made, annotations taken over, and those refused because the model has no such answer.",
            unit="ops",
            low=0,
            queries=tuple(
                Query(
                    expression=f"sum by (tool) ({rate(f'hardcase_integration_{name}_total')})",
                    legend="{{tool}}: " + name,
                    may_be_empty="no labelling tool is configured",
                )
                for name in ("pushed", "pulled", "refused")
            ),
        ),
        Panel(
            title="Are notices delivered?",
            text="Attempts by how they came out, those that were not the first, and how long the oldest notice waits.",
            unit="short",
            low=0,
            console="/settings",
            queries=(
                Query(
                    expression=f"sum by (channel, outcome) ({rate('hardcase_notice_attempts_total')})",
                    legend="{{channel}}: {{outcome}} a second",
                    may_be_empty="no channel is configured",
                ),
                Query(
                    expression=f"sum by (channel) ({rate('hardcase_notice_retries_total')})",
                    legend="{{channel}}: tried again a second",
                    may_be_empty="no channel is configured",
                ),
                Query(
                    expression=f"sum by (channel) ({pick('hardcase_notices_waiting')})",
                    legend="{{channel}}: waiting",
                    may_be_empty="no channel is configured",
                ),
                Query(expression=f"max({pick('hardcase_notices_oldest_seconds')})", legend="seconds the oldest waits"),
            ),
        ),
    ),
)
