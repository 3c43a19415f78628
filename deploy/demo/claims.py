"""What the demo claims, and whether the figures bear it out."""

from __future__ import annotations

from collections import defaultdict

from deploy.demo.findings import TOP, Claim, Findings, percent, shifted_accuracy

WANTED_WRONG = 0.70
WANTED_DROP = 0.20
HARMLESS_DROP = 0.05


def judge(findings: Findings) -> list[Claim]:
    """The story's claims."""
    healthy = next(p for p in findings.phases if p.key == "healthy")
    harmless = [p for p in findings.phases if not p.harmful and p.key != "healthy"]
    before, under = healthy.accuracy, shifted_accuracy(findings)
    wrong, judged = sum(c.correct is False for c in findings.cases), len(findings.cases)
    failed = sum(p.failed for p in findings.phases)
    rose = [s for s in findings.signals if s.exceeded_under and not s.exceeded_before]
    was = [s for s in findings.signals if s.exceeded_before]
    by_kind: dict[str, int] = defaultdict(int)
    for signal in rose:
        by_kind[signal.kind] += 1
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(by_kind.items()))
    balanced = bool(findings.accounting.get("balanced"))
    return [
        Claim(name="every request was answered", holds=failed == 0, detail=f"{failed} failed"),
        Claim(
            name="accuracy drops under the shift",
            holds=before is not None and under is not None and before - under >= WANTED_DROP,
            detail=f"{percent(before)} before, {percent(under)} under",
        ),
        Claim(
            name="more light does no harm",
            holds=all(
                p.accuracy is not None and before is not None and before - p.accuracy <= HARMLESS_DROP for p in harmless
            ),
            detail=", ".join(f"{percent(p.accuracy)} with {p.title}" for p in harmless),
        ),
        Claim(
            name="drift signals rise",
            holds=len(rose) > len(was),
            detail=f"{len(was)} over their threshold before, {len(rose)} more under the shift ({kinds or 'none'})",
        ),
        Claim(
            name=f"the top {TOP} flagged cases are mostly wrong answers",
            holds=judged == TOP and wrong >= WANTED_WRONG * TOP,
            detail=f"{wrong} of {judged} wrong ({findings.flagged} flagged in the shifted part)",
        ),
        Claim(
            name="every request is accounted for",
            holds=balanced,
            detail=f"{findings.accounting.get('requests')} requests, {findings.accounting.get('captured')} captured",
        ),
    ]
