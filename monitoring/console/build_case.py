"""The page of one case."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from monitoring.api import fields
from monitoring.api import finding_models as f
from monitoring.api import models as m
from monitoring.api.finding_views import Findings
from monitoring.case_facts import ActRow, SaidRow, history_of, said_of_case, tags_of
from monitoring.case_rows import InputState
from monitoring.console import case_parts, parts, words
from monitoring.console import contexts as c
from monitoring.console.build import Builder
from monitoring.console.build_answers import answer_part
from monitoring.console.build_case_parts import bars_of, facts_of, scores_of, spans_of, verdict_of
from monitoring.console.build_inputs import inputs_of
from monitoring.console.build_pads import pad_of
from monitoring.console.build_review import VERDICTS, standing_line
from monitoring.console.build_slices import like_case, of_case
from monitoring.console.input_parts import InputKindShown, InputView
from monitoring.console.review_parts import ActLine, SaidLine
from monitoring.feedback_held import Held
from monitoring.people.contracts import Principal, Role
from monitoring.review.contracts import Verdict
from monitoring.review.truths import AUTHOR
from monitoring.rows import CaseRow, TensorRow

HELD = {
    Held.COUNTS: "counts",
    Held.AGREES: "says the same",
    Held.OVERTAKEN: "does not count",
    Held.COMPLAINT: "complaint",
    Held.REMARK: "remark",
}
SAME = (Held.COUNTS, Held.AGREES)
MIN_HEAT = 16  # elements from which on an output is worth a heat map


def case_page(builder: Builder, findings: Findings, identity: str, who: Principal) -> c.CasePage:
    """Everything about one case.

    Raises:
        NotFound: there is none.
    """
    view = builder.view
    row = view.case_row(identity)
    case = view.case_detail(identity)
    card = builder.card(row)
    verdict, tone = verdict_of(card)
    bars, hidden = bars_of(case, card)
    tensors = view.store.case_tensors(identity)
    like, missing = like_case(findings, identity)
    like_cases, _ = like_case(findings, identity, f.NeighbourSource.CASES)
    return c.CasePage(
        shell=builder.shell("cases"),
        actor=who.name,
        may_decide=who.role.covers(Role.REVIEWER),
        card=card,
        verdict=verdict,
        verdict_tone=tone,
        standing=standing_line(view.store, identity, case.class_names),
        pad=pad_of(view.manifest(row.model, row.version), case),
        why=tuple(parts.Fact(name=words.reason(r), value=words.reason_text(r)) for r in row.reasons),
        inputs=inputs_of(builder, row, tensors),
        outputs=_outputs(row, tensors),
        answer=answer_part(builder, case),
        bars=bars,
        hidden_classes=hidden,
        scores=scores_of(case, view.baseline(row.model, row.version)),
        said=tuple(_said(builder, row, x) for x in said_of_case(view.store, identity)),
        spans=spans_of(case.timing_us),
        total_us=case.timing_us.get("total", 0),
        facts=facts_of(case),
        tensors=_tensors(case),
        feedback=tuple(_feedback(x, case.class_names) for x in case.feedback),
        feedback_doubt=_doubt(case.feedback),
        history=tuple(_act(x, case.class_names) for x in history_of(view.store, identity)),
        labels=tags_of(view.store, identity),
        download=case.input,
        error=case.error,
        like=like,
        like_missing=missing,
        like_cases=like_cases,
        reference=_reference(findings, identity),
        **of_case(builder, findings, identity),  # type: ignore[arg-type]  # its values are of the fields they are named by
    )


def _reference(findings: Findings, identity: str) -> str:
    """How near the reference is, in words; "" where that is not known."""
    near = findings.near(identity, f.NeighbourQuery(of=f.NeighbourSource.REFERENCE, k=10)).neighbours
    if not near:
        return ""
    mean = sum(n.likeness for n in near) / len(near)
    return (
        f"The nearest input of the reference has cosine {near[0].likeness:.3f}; the nearest ten {mean:.3f} on average."
    )


def _outputs(row: CaseRow, tensors: tuple[TensorRow, ...]) -> tuple[InputView, ...]:
    """Kept outputs that are large enough to be looked at as heat maps."""
    views = []
    for x in tensors:
        if x.direction != "out" or not x.data or x.datatype == "BYTES":
            continue
        size = 1
        for n in x.shape[1:]:
            size *= n
        if size >= MIN_HEAT:
            shape = ", ".join(str(n) for n in x.shape)
            src = f"/api/cases/{row.id}/heat.png?direction=out&name={quote(x.name, safe='')}"
            views.append(InputView(name=x.name, kind=InputKindShown.HEAT, note=f"{x.datatype} [{shape}]", src=src))
    return tuple(views)


def _said(builder: Builder, case: CaseRow, x: SaidRow) -> SaidLine:
    manifest = builder.view.manifest(case.model, x.version)
    names = manifest.task.class_names if manifest is not None else ()
    said = words.label(x.predicted, names)
    if said is None and x.answer is not None:
        said = words.label(x.answer[0] if isinstance(x.answer, list) and len(x.answer) == 1 else x.answer, names)
    if said is None and x.value is not None:
        said = words.figure(x.value)
    own = x.version == case.version and x.time_ns == case.time_ns and x.variant == case.variant
    same = "this request, another answer" if x.same_request else "the same input, sent another time"
    href = f"/cases/{x.case_id}" if x.case_id and not own else ""
    return SaidLine(
        version=x.version,
        variant=x.variant,
        said=said if said is not None else words.plain(x.outcome),
        p_wrong=x.p_wrong,
        correct=None if x.correct_rows is None else x.correct_rows == x.rows,
        at=fields.to_text(fields.from_ns(x.time_ns)),
        how="this case" if own else same,
        href=href,
    )


def _tensors(case: m.CaseDetail) -> tuple[parts.Fact, ...]:
    kept = tuple(
        parts.Fact(
            name=f"{'input' if t.direction == 'in' else 'output'} {t.name}",
            value=f"{t.datatype} [{', '.join(str(n) for n in t.shape)}] · {words.size(t.size_bytes)}",
        )
        for t in case.tensors
    )
    state = words.plain(case.input_state)
    return kept or (parts.Fact(name="input", value=state if case.input_state != InputState.KEPT else "kept"),)


def _feedback(x: m.Feedback, names: list[str]) -> case_parts.FeedbackLine:
    return case_parts.FeedbackLine(
        at=fields.to_text(x.time),
        label=words.label(x.label, names) or (", ".join(x.labels) if x.labels else None),
        score=x.score,
        comment=x.comment,
        author=f"{x.author.removeprefix(AUTHOR)}, in review" if x.author and x.author.startswith(AUTHOR) else x.author,
        held=HELD[x.held],
        tone="good" if x.held is Held.COUNTS else "bad" if x.held is Held.COMPLAINT else "",
        because=x.because,
    )


def _doubt(found: list[m.Feedback]) -> str:
    """That people do not agree, in a sentence; "" where they do."""
    others = sum(x.held is Held.OVERTAKEN for x in found)
    if not others:
        return ""
    return f"{others} label{'s' if others > 1 else ''} of {others + sum(x.held in SAME for x in found)} say otherwise."


def _act(x: ActRow, names: list[str]) -> ActLine:
    return ActLine(
        act=x.act,
        at=fields.to_text(fields.from_ns(x.time_ns)),
        actor=x.actor,
        what=_what(x, names),
        comment=x.comment,
        undone=x.withdrawn,
    )


def _what(x: ActRow, names: list[str]) -> str:
    if x.verdict is not None:
        label = words.label(json.loads(x.label), names) if x.label else None
        how = {"bulk": " with others", "import": " elsewhere"}.get(x.kind, "")
        return f"said{how}: {VERDICTS[Verdict(x.verdict)]}{f' {label}' if label and x.verdict == Verdict.LABEL else ''}"
    changes = ", ".join(
        _change(name, x.before, x.after) for name in sorted(x.after) if name not in ("edition", "label")
    )
    said = {"undo": "took back", "tag": "tagged", "comment": "commented", "opinion": "asked for more opinions"}
    return f"{said.get(x.kind, x.kind)}{f': {changes}' if changes else ''}"


def _change(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    def text(value: Any) -> str:
        if isinstance(value, list):
            return ", ".join(str(v) for v in value) or "none"
        return words.plain(str(value)) if value not in ("", None) else "none"

    plain = {"decided_by": "decided by", "lease_by": "with"}.get(name, name.replace("_", " "))
    if name.endswith("_ns"):
        return f"{name.removesuffix('_ns').replace('_', ' ')} moved"
    return f"{plain} {text(before.get(name))} → {text(after[name])}"
