"""What a labelling tool is to the monitor: cases go in as tasks, answers come back as labels.

A tool is an adapter that translates; what is sent when, and what becomes of answers, is the affair of
`monitoring.integrations.worker`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from export.contracts.manifest import Manifest
from monitoring.integrations.egress import EgressError
from monitoring.integrations.names import Tool
from monitoring.review.contracts import Verdict


class ToolError(EgressError):
    """The tool answered, and not what it should: wrong token, no rights, another version. The settings need a look."""

    code = "tool_refused"

    def __init__(self, message: str, *, about_request: bool = False) -> None:
        """`about_request`: what was sent is at fault, not who sent it: something else may be taken."""
        super().__init__(message)
        self.about_request = about_request


class ProjectGone(ToolError):
    """The project is no longer in the tool."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sheet:
    """A case as an annotator sees it.

    Attributes:
        pictures: PNG by the input's name.
        texts: Text by the input's name.
        tables: Values by the input's name, each by its column's name.
        answer: What the model said, as a label would say it; None where it said nothing.
        link: Where the case is in the console; "" where the tool's users cannot reach that.
    """

    case: str
    model: str
    version: str
    batch: str = ""
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    answer: Any = None
    confidence: float | None = None
    link: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """What one annotator says of a task now.

    Attributes:
        annotator: As the tool knows them: an e-mail address or a name.
        label: As `monitoring.review.asked.Decision.label`.
        problem: Why it cannot be taken over; "" where it can.
        stamp: What identifies this state of it: the tool's id and time of change.
    """

    annotator: str
    verdict: Verdict
    label: Any = None
    problem: str = ""
    stamp: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Changed:
    """A task that may have changed: everything that is said of it now, one entry an annotator."""

    task: str
    given: tuple[Given, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """Changes up to `seen`, a time of the tool's clock."""

    changed: tuple[Changed, ...]
    seen: str


class LabelTool(Protocol):
    """An adapter. Every method may raise `EgressError`: not reached, or refused."""

    tool: Tool

    def config(self, manifest: Manifest) -> str:
        """What annotators of this model may answer, as the tool is told; two models with the same may share a project.

        Raises:
            ValueError: the tool cannot ask for this kind of answer; the text is for people.
        """
        ...

    def make_project(self, model: str, config: str) -> str:
        """A project, made; or the one that was made before with the same title and config."""
        ...

    def push(self, project: str, manifest: Manifest, sheets: Sequence[Sheet]) -> dict[str, str]:
        """Make a task of each case, and of none two; returns the tasks' ids by case."""
        ...

    def changes(self, project: str, manifest: Manifest, since: str) -> Iterator[Page]:
        """What changed since a time of the tool's clock, oldest first; everything where that is ""."""
        ...

    def remove(self, project: str, tasks: Sequence[str]) -> None:
        """Take tasks out of the tool; those that are not there are none."""
        ...

    def link(self, project: str, task: str) -> str:
        """Where people find a task."""
        ...
