"""What the API asks and answers about labelling tools."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from monitoring.api.fields import Answer, Asked, Time
from monitoring.integrations.names import TaskState, Tool

CaseName = Annotated[str, StringConstraints(pattern="^[0-9a-f]{16}$")]


class ToolPush(Asked):
    """Which cases are to be sent: `cases` or `batch`."""

    cases: list[CaseName] | None = Field(None, min_length=1, max_length=2000)
    batch: Annotated[str, StringConstraints(pattern="^[0-9a-f]{12}$")] | None = Field(
        None, description="A labelling batch: its cases without a decision."
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> ToolPush:
        if (self.cases is None) == (self.batch is None):
            raise ValueError("exactly one of cases and batch is needed")
        return self


class ToolPushed(Answer):
    """What is going to be sent. It waits until the tool has it."""

    added: int = Field(description="Cases that wait now and did not before.")
    known: int = Field(description="Cases that are in the tool already, or waited for it.")
    unknown: int = Field(description="Ids that are no cases.")


class ToolPull(Asked):
    """How much is to be looked at."""

    everything: bool = Field(False, description="From the beginning, instead of what changed since the last look.")


class ToolProject(Answer):
    """A project of ours in a tool."""

    model: str
    project: str = Field(description="As the tool numbers it.")
    looked_at: Time | None = Field(description="When changes were last fetched.")


class ToolStatus(Answer):
    """How a labelling tool is doing."""

    tool: Tool
    url: str
    answers: bool | None = Field(description="Whether it answered when it was last called; null: it never was.")
    problem: str | None
    failing_since: Time | None
    answered_at: Time | None
    next_try_at: Time | None = Field(description="While it fails: when it is called again.")
    tasks: dict[TaskState, int]
    pushed: int = Field(description="Tasks made, ever.")
    pulled: int = Field(description="Annotations taken over, ever.")
    refused: int = Field(description="Annotations that do not fit the model's answers, ever.")
    hints: int = Field(description="Genuine webhooks, ever.")
    projects: list[ToolProject]


class Tools(Answer):
    """The configured tools."""

    tools: list[ToolStatus]


class ToolTask(Answer):
    """A case in a labelling tool."""

    tool: Tool
    state: TaskState
    url: str | None = Field(description="Where people find it in the tool.")
    problem: str | None
    asked_at: Time
    asked_by: str
    pushed_at: Time | None
    pulled_at: Time | None = Field(description="When its annotations last changed something here.")


class ToolTasks(Answer):
    """A case in all tools."""

    tasks: list[ToolTask]
