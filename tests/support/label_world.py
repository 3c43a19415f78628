"""The monitor's side of a labelling tool: a store with digits, a worker, and what the labels should be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from monitoring import schema as t
from monitoring.baselines import Baselines
from monitoring.integrations import rows
from monitoring.integrations.duty import make_label_studio
from monitoring.integrations.names import TaskState, Tool
from monitoring.integrations.options import IntegrationOptions, LabelStudioOptions
from monitoring.integrations.rows import TaskRow
from monitoring.integrations.worker import ToolWorker
from monitoring.review.ledger import Ledger
from monitoring.store import Store
from tests.support.console_store import CLASSES, MemoryCatalogue, fill, manifest

TOOL = Tool.LABEL_STUDIO


@dataclass(kw_only=True)
class LabelWorld:
    """A store of digits and the worker of a Label Studio."""

    store: Store
    worker: ToolWorker
    options: IntegrationOptions
    cases: tuple[str, ...]

    @property
    def ledger(self) -> Ledger:
        return self.worker.ledger

    def ask(self, cases: tuple[str, ...] | None = None, now_ns: int = 1) -> dict[str, int]:
        """Have cases sent."""
        return rows.ask_for(self.store, TOOL, cases or self.cases, batch="", actor="ann", now_ns=now_ns)

    def turns(self) -> None:
        """Let the worker work until nothing waits."""
        for _ in range(1000):
            if not self.worker.turn():
                return
        raise AssertionError("the worker does not come to an end")

    def task(self, case: str) -> TaskRow:
        """A case's task."""
        row = rows.task_of_case(self.store, TOOL, case)
        assert row is not None
        return row

    def tasks(self, state: TaskState) -> list[str]:
        """Cases in this state."""
        e = t.external_tasks.c
        with self.store.read() as connection:
            return list(connection.scalars(sa.select(e.case_id).where(e.state == state.value).order_by(e.id)))

    def decided(self) -> dict[str, str]:
        """The settled labels, as JSON, by case: what the reviewers of the tool said."""
        c = t.cases.c
        with self.store.read() as connection:
            query = sa.select(c.id, c.decided_label).where(c.decided_by.startswith("label-studio:"))
            return {row.id: row.decided_label for row in connection.execute(query)}

    def truths(self) -> list[str]:
        """Labels that count for the loop, as JSON."""
        f = t.feedback.c
        with self.store.read() as connection:
            query = sa.select(f.label).where(f.withdrawn.is_(False), f.author.startswith("review:label-studio:"))
            return list(connection.scalars(query))


def label_world(folder: Path, url: str, token: str, *, cases: int, callback_url: str = "", poll_s: float = 0.0,
                annotators: int = 1) -> LabelWorld:  # fmt: skip
    """A store with `cases` cases, of which those without an input cannot be sent."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "token"
    file.write_text(token)
    store = Store(f"sqlite:///{folder}/monitor.db")
    day = fill(store, cases=cases)
    options = LabelStudioOptions(url=url, token_file=str(file), callback_url=callback_url, annotators=annotators)
    worker = ToolWorker(
        tool=make_label_studio(options),
        store=store,
        baselines=Baselines(MemoryCatalogue(manifests=(manifest(),))),
        ledger=Ledger(store),
        poll_s=poll_s,
        annotators=annotators,
    )
    return LabelWorld(store=store, worker=worker, options=IntegrationOptions(label_studio=options), cases=day.case_ids)


def truth_of(cases: list[str], seed: int = 11) -> dict[str, str]:
    """What an annotator will say of each case: any class, so that a re-ordering shows."""
    drawn = np.random.default_rng(seed).integers(len(CLASSES), size=len(cases))
    return {case: CLASSES[i] for case, i in zip(cases, drawn, strict=True)}
