"""Keeps a labelling tool and the review queue in step: cases out, answers in, whatever fails in between.

Nothing here is an event that can be lost. What is to be sent waits in a table until the tool has it; what is to be
fetched is asked for by the time of its last change, from a little before the last look on, and again from the beginning
after a start. A webhook only says "look now". So a tool that is away for an hour, an answer that was lost, a webhook
that came twice or never, all end at the same labels.
"""

from __future__ import annotations

import hashlib
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from export.contracts.errors import Conflict, NotFound
from export.contracts.manifest import Manifest
from monitoring.baselines import Baselines
from monitoring.case_rows import to_json
from monitoring.integrations import rows, tool_rows
from monitoring.integrations.contracts import Changed, Given, LabelTool, ProjectGone, Sheet, ToolError
from monitoring.integrations.egress import EgressError
from monitoring.integrations.names import TaskState
from monitoring.integrations.pictures import CannotShow, make_sheet
from monitoring.integrations.rows import TaskRow
from monitoring.integrations.tool_rows import ProjectRow
from monitoring.review.asked import ImportedLabel, Selection
from monitoring.review.contracts import Verdict
from monitoring.review.ledger import Ledger
from monitoring.store import Store

logger = logging.getLogger(__name__)

CHUNK = 50  # cases a call
CHUNK_BYTES = 8 << 20  # of their pictures
OVERLAP_S = 60  # a change may become visible after a later one: transactions of the tool's own
LONGEST_PAUSE_S = 300.0
TIDY_EVERY_S = 60.0
ACTOR_CHARS = 64


@dataclass(kw_only=True)
class ToolWorker:
    """One tool. `turn` does a bounded piece and never raises for what the tool does.

    Attributes:
        link: Address of a case in the console, or "" where the tool's users cannot reach it.
        poll_s: Time between two looks when nothing asks for one.
        annotators: Opinions that a case shall have.
        clock: Nanoseconds since the epoch.
        draw: Uniform in [0, 1), for the pauses.
    """

    tool: LabelTool
    store: Store
    baselines: Baselines
    ledger: Ledger
    poll_s: float = 30.0
    annotators: int = 1
    link: Callable[[str], str] = lambda case: ""
    clock: Callable[[], int] = time.time_ns
    draw: Callable[[], float] = field(default_factory=lambda: random.SystemRandom().random)
    _whole: set[int] = field(default_factory=set)  # projects that this process has looked through from the beginning
    _tidied_ns: int = 0

    def turn(self) -> bool:
        """Send a piece, fetch what is due; returns whether more waits to be sent."""
        now_ns, name = self.clock(), self.tool.tool
        state = tool_rows.tool_row(self.store, name)
        if now_ns < state.next_ns:
            return False
        try:
            more = self._send(now_ns)
            looked = [self._look(project, now_ns) for project in tool_rows.projects(self.store, name)]
            tidied = self._tidy(now_ns)
        except EgressError as error:
            pause_s = min(LONGEST_PAUSE_S, 2.0**state.failures) * (0.5 + self.draw() / 2)
            tool_rows.note_failed(self.store, name, error.message, now_ns, now_ns + int(pause_s * 1e9))
            if not state.failures:
                logger.warning("%s: %s; what is to be sent and fetched waits", name, error.message)
            return False
        if more or any(looked) or tidied or state.failures:
            tool_rows.note_answered(self.store, name, self.clock())
        return more

    # ---- out

    def _send(self, now_ns: int) -> bool:
        """Send the next cases; returns whether others wait behind them."""
        found = rows.waiting(self.store, self.tool.tool, CHUNK + 1)
        groups: dict[tuple[str, str], list[tuple[TaskRow, Sheet]]] = {}
        manifests: dict[str, Manifest] = {}
        held = 0
        for row in found[:CHUNK]:
            made = self._sheet(row)
            if made is None:
                continue
            sheet, manifest, config = made
            held += sum(map(len, sheet.pictures.values()))
            groups.setdefault((sheet.model, config), []).append((row, sheet))
            manifests[config] = manifest
            if held > CHUNK_BYTES:
                break
        for (model, config), members in groups.items():
            project = self._project(model, config, now_ns)
            self._push(project, manifests[config], members, now_ns)
        return len(found) > CHUNK or held > CHUNK_BYTES

    def _sheet(self, row: TaskRow) -> tuple[Sheet, Manifest, str] | None:
        case = self.store.case(row.case_id)
        manifest = None if case is None else self.baselines.get(case.model, case.version).manifest
        try:
            if case is None or manifest is None:
                raise CannotShow("the case is gone" if case is None else "the registry does not know its version")
            config = self.tool.config(manifest)
            return make_sheet(self.store, case, manifest, row.batch, self.link(case.id)), manifest, config
        except ValueError as error:
            rows.note_task(self.store, row.id, state=TaskState.REFUSED.value, problem=str(error))
            return None

    def _project(self, model: str, config: str, now_ns: int) -> ProjectRow:
        digest = hashlib.sha256(config.encode()).hexdigest()
        for project in tool_rows.projects(self.store, self.tool.tool):
            if (project.model, project.config) == (model, digest):
                return project
        number = self.tool.make_project(model, config)
        return tool_rows.add_project(self.store, self.tool.tool, model, digest, number, now_ns)

    def _push(
        self, project: ProjectRow, manifest: Manifest, members: Sequence[tuple[TaskRow, Sheet]], now_ns: int
    ) -> None:
        try:
            made = self.tool.push(project.external_id, manifest, [sheet for _, sheet in members])
        except ProjectGone:
            tool_rows.drop_project(self.store, project.id)  # made anew at the next turn
            raise
        except ToolError as error:
            if not error.about_request:
                raise
            if len(members) == 1:  # this case, and no other, is what the tool does not take
                rows.note_task(self.store, members[0][0].id, state=TaskState.REFUSED.value, problem=error.message)
                return
            for member in members:
                self._push(project, manifest, [member], now_ns)
            return
        done = {row.id: made[row.case_id] for row, _ in members if row.case_id in made}
        rows.note_pushed(self.store, self.tool.tool, project.id, done, now_ns)
        if self.annotators > 1:
            self._ask_opinions(list(made))

    def _ask_opinions(self, cases: Sequence[str]) -> None:
        selection = Selection(cases=tuple(cases))
        self.ledger.ask_opinions(self.tool.tool.value, None, selection, self.annotators)

    # ---- in

    def _look(self, project: ProjectRow, now_ns: int) -> bool:
        """Fetch what changed in a project, if it is time; returns whether the tool was asked."""
        whole = project.id not in self._whole or not project.seen
        asked = project.asked_ns > project.looked_ns
        if not (asked or whole or now_ns - project.looked_ns >= self.poll_s * 1e9):
            return False
        manifest = self._manifest(project)
        if manifest is None:
            return False
        there: set[str] = set()
        try:
            for page in self.tool.changes(project.external_id, manifest, "" if whole else _before(project.seen)):
                there.update(changed.task for changed in page.changed)
                self._take(project, page.changed)
                tool_rows.note_looked(self.store, project.id, seen=page.seen)
        except ProjectGone:
            tool_rows.drop_project(self.store, project.id)
            raise
        if whole:
            rows.note_lost(self.store, project.id, there, now_ns)
            self._whole.add(project.id)
        tool_rows.note_looked(self.store, project.id, looked_ns=now_ns)
        return True

    def _manifest(self, project: ProjectRow) -> Manifest | None:
        """Of a version whose config the project has."""
        for version in reversed(self.store.versions(project.model)):
            manifest = self.baselines.get(version.model, version.version).manifest
            if manifest is None:
                continue
            try:
                config = self.tool.config(manifest)
            except ValueError:
                continue
            if hashlib.sha256(config.encode()).hexdigest() == project.config:
                return manifest
        return None

    def _take(self, project: ProjectRow, changes: Sequence[Changed]) -> None:
        known = rows.tasks_by_number(self.store, project.id, [changed.task for changed in changes])
        for changed in changes:
            row = known.get(changed.task)
            if row is None:  # somebody else's task, or the twin of one of ours: an import whose answer was lost
                continue
            digest = hashlib.sha256("\n".join(given.stamp for given in changed.given).encode()).hexdigest()
            if digest != row.digest and (changed.given or row.digest):
                self._take_over(project, row, changed, digest)

    def _take_over(self, project: ProjectRow, row: TaskRow, changed: Changed, digest: str) -> None:
        """Bring the opinions on a case in line with what is said of its task now."""
        name = self.tool.tool.value
        before = rows.live_opinions(self.store, row.case_id, f"{name}:")
        taken, problems, kept = 0, [], set()
        for given in changed.given:
            reviewer = f"{name}:{given.annotator}"[:ACTOR_CHARS]
            kept.add(reviewer)
            if given.problem:
                problems.append(f"{given.annotator}: {given.problem}")
                continue
            label = to_json(given.label) if given.verdict is Verdict.LABEL else ""
            said = before.get(reviewer)
            if said is not None and (said[1], said[2] or "") == (given.verdict.value, label):
                continue
            why = self._import(row, reviewer, given, f"{project.external_id}:{changed.task}:{given.stamp}", said)
            taken += not why
            problems += [f"{given.annotator}: {why}"] if why else []
        for reviewer in sorted(set(before) - kept):  # the annotation was deleted: with all that it ever said
            for act in rows.live_acts(self.store, row.case_id, reviewer):
                why = self._take_back(act, f"{changed.task}:{digest[:16]}")
                if why:
                    problems.append(f"{reviewer.partition(':')[2]}: {why}")
                    break
        whole = any(not given.problem for given in changed.given)
        state = TaskState.LABELLED if whole else TaskState.PUSHED
        values = {"state": state.value, "digest": digest, "pulled_ns": self.clock(), "problem": "; ".join(problems)}
        rows.note_task(self.store, row.id, **values)
        refused = sum(bool(given.problem) for given in changed.given)
        tool_rows.count(self.store, self.tool.tool, pulled=taken, refused=refused)

    def _import(
        self, row: TaskRow, reviewer: str, given: Given, key: str, said: tuple[int, str, str | None] | None
    ) -> str:
        """Take over one annotator's word; returns why not, or ""."""
        name = self.tool.tool.value
        item = ImportedLabel(case=row.case_id, verdict=given.verdict, label=given.label, reviewer=reviewer)
        done = self.ledger.import_labels(name, key, [item], name)[0]
        if "opinion given" in done.skipped and said is not None:
            # The case waits for another person, and this one has changed their mind: the old word goes first.
            self._take_back(said[0], key)
            done = self.ledger.import_labels(name, f"{key}:again", [item], name)[0]
        return "" if done.changed or "said already" in done.skipped else ", ".join(done.skipped)

    def _take_back(self, act: int, key: str) -> str:
        try:
            changed = self.ledger.undo(self.tool.tool.value, f"{key}:undo:{act}"[-100:], act)
        except (Conflict, NotFound) as error:
            return error.message
        return "" if changed.changed else "the annotation was deleted; the case has been changed since and stays"

    # ---- away

    def _tidy(self, now_ns: int) -> bool:
        """Take out of the tool what is no longer kept here: erased records, and cases that retention let go."""
        if now_ns - self._tidied_ns < TIDY_EVERY_S * 1e9:
            return False
        gone = rows.orphans(self.store, self.tool.tool, CHUNK)
        numbers = {project.id: project.external_id for project in tool_rows.projects(self.store, self.tool.tool)}
        for row in gone:
            if row.project_id in numbers and row.external_id is not None and row.state != TaskState.LOST:
                self.tool.remove(numbers[row.project_id], [row.external_id])
        rows.forget(self.store, [row.id for row in gone])
        if len(gone) < CHUNK:
            self._tidied_ns = now_ns
        return bool(gone)


def _before(seen: str) -> str:
    """A little earlier than a time of the tool's clock."""
    then = datetime.fromisoformat(seen) - timedelta(seconds=OVERLAP_S)
    return then.isoformat().replace("+00:00", "Z")
