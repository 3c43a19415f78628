"""The row of *Loop* about people: what they decide, whether they agree, and the tools in which they label."""

from __future__ import annotations

from deploy.observability.panels import Panel, Query, Row, pick, rate

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
                Query(
                    expression=f"sum by (model) ({pick('hardcase_review_waiting_cases')})",
                    legend="{{model}}",
                    may_be_empty="no case waits",
                ),
                Query(expression=f"max({pick('hardcase_review_leased_cases')})", legend="taken"),
            ),
        ),
        Panel(
            title="How fast is the queue worked off?",
            text="Decisions in a second by verdict, cases taken, decisions taken back, and those that came second.",
            unit="ops",
            low=0,
            console="/audit",
            queries=(
                Query(
                    expression=f"sum by (verdict) ({rate('hardcase_review_decisions_total')})",
                    legend="{{verdict}}",
                    may_be_empty="nobody has decided anything",
                ),
                Query(expression=f"sum({rate('hardcase_review_leases_total')})", legend="taken"),
                Query(expression=f"sum({rate('hardcase_review_undone_cases_total')})", legend="undone"),
                Query(expression=f"sum({rate('hardcase_review_conflicts_total')})", legend="conflicts"),
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
                Query(
                    expression=f"sum by (state) ({pick('hardcase_slices')})",
                    legend="{{state}}",
                    may_be_empty="no slice was found",
                ),
                Query(
                    expression=f"sum({pick('hardcase_slice_alerts_firing')})",
                    legend="over their limit",
                    may_be_empty="no slice was found",
                ),
            ),
        ),
        Panel(
            title="How do roll-outs end?",
            text="New versions by how their roll-outs ended, and those that are under way.",
            unit="short",
            low=0,
            console="/rollouts",
            queries=(
                Query(
                    expression=f"sum by (state) ({pick('hardcase_rollouts_total')})",
                    legend="{{state}}",
                ),
                Query(expression=f"sum by (state) ({pick('hardcase_rollout')})", legend="now {{state}}"),
            ),
        ),
        Panel(
            title="What speaks against the version that is rolled out?",
            text="Evidence as a share of what takes it back, and the share of requests that it has answered.",
            unit="percentunit",
            low=0,
            high=1,
            console="/rollouts",
            queries=(
                Query(
                    expression=f"max by (metric) ({pick('hardcase_rollout_evidence_ratio')})",
                    legend="{{metric}}",
                ),
                Query(expression=f"max({pick('hardcase_rollout_exposed_ratio')})", legend="answered by it"),
            ),
        ),
        Panel(
            title="What lies in the labelling tools?",
            text="Cases by what became of them there, and how long a tool has not answered.",
            unit="short",
            low=0,
            console="/settings",
            queries=(
                Query(
                    expression=f"sum by (tool, state) ({pick('hardcase_integration_tasks')})",
                    legend="{{tool}}: {{state}}",
                    may_be_empty="no labelling tool is configured",
                ),
                Query(
                    expression=f"max by (tool) ({pick('hardcase_integration_failing_seconds')})",
                    legend="{{tool}}: seconds without an answer",
                    may_be_empty="no labelling tool is configured",
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
