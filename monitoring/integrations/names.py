"""Names of tools and of a task's states: for everybody who needs nothing else of them."""

from __future__ import annotations

from enum import StrEnum


class Tool(StrEnum):
    """Labelling tools that the monitor works with."""

    LABEL_STUDIO = "label-studio"
    CVAT = "cvat"


class TaskState(StrEnum):
    """Where a case stands in a tool."""

    WAITING = "waiting"  # is to be sent
    PUSHED = "pushed"  # lies there
    LABELLED = "labelled"  # an answer was taken over
    REFUSED = "refused"  # cannot be sent; `problem` says why
    LOST = "lost"  # somebody took it out of the tool
