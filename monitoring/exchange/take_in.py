"""Labels from a file to the review ledger: checked against the cases first, then all of them or none."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from export.contracts.task import TaskKind
from monitoring.exchange.contracts import ExchangeError, Labelled, Problem
from monitoring.exchange.csv_file import read_csv_lines
from monitoring.exchange.fit import fit, to_label
from monitoring.exchange.jsonl import read_lines
from monitoring.exchange.shared import without_repetitions
from monitoring.exchange.source import LIMIT, CaseSource
from monitoring.review.asked import ImportedLabel
from monitoring.review.contracts import Verdict
from monitoring.review.ledger import Ledger


@dataclass(frozen=True, kw_only=True)
class ImportResult:
    """What became of an import; with a problem, nothing was changed."""

    labels: int
    problems: Sequence[Problem] = ()
    changed: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    acts: Sequence[int] = ()


def take_in(
    cases: CaseSource,
    ledger: Ledger,
    actor: str,
    body: bytes,
    *,
    key: str,
    source: str,
    as_csv: bool = False,
    dry_run: bool = False,
) -> ImportResult:
    """Import the labels of a body: JSON Lines or CSV. `source` says where they come from, in the trail."""
    name = source
    try:
        if as_csv:
            lines = io.StringIO(body.decode("utf-8-sig"), newline="")
            labels, problems = without_repetitions(read_csv_lines(lines, name))
        else:
            labels, problems = without_repetitions(read_lines(body.splitlines(), name))
    except UnicodeDecodeError:
        return ImportResult(labels=0, problems=[Problem(where=name, text="not UTF-8")])
    except ExchangeError as error:
        return ImportResult(labels=0, problems=[Problem(where=name, text=str(error))])
    if len(labels) > LIMIT:
        problems.append(Problem(where=name, text=f"at most {LIMIT} labels at once"))
        return ImportResult(labels=len(labels), problems=problems)
    items, wrong = fitted(cases, labels)
    problems += wrong
    if problems or dry_run or not items:
        return ImportResult(labels=len(labels), problems=problems)
    acts = ledger.import_labels(actor, key, items, name)
    skipped: dict[str, int] = {}
    for act in acts:
        for why, count in act.skipped.items():
            skipped[why] = skipped.get(why, 0) + count
    return ImportResult(
        labels=len(labels), changed=sum(a.changed for a in acts), skipped=skipped, acts=[a.act for a in acts]
    )


def fitted(cases: CaseSource, labels: Sequence[Labelled]) -> tuple[list[ImportedLabel], list[Problem]]:
    """Labels as the ledger takes them, and what does not fit its case."""
    facts = cases.facts(label.case for label in labels)
    items: list[ImportedLabel] = []
    problems: list[Problem] = []
    for one in labels:
        try:
            if one.case not in facts:
                raise ExchangeError(f"there is no case {one.case}")
            model, version, size = facts[one.case]
            manifest = cases.manifest(model, version)
            task = TaskKind.OTHER if manifest is None else manifest.task.kind
            truth = fit(one.truth, task, () if manifest is None else manifest.task.class_names)
            label = to_label(truth, None if manifest is None else manifest.task.boxes, size)
        except ExchangeError as error:
            problems.append(Problem(where=one.where, text=str(error)))
            continue
        items.append(ImportedLabel(case=one.case, verdict=Verdict.LABEL, label=label, comment=one.comment or None))
    return items, problems
