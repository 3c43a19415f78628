"""The dashboards, one file each."""

from __future__ import annotations

from deploy.observability.dashboards.fleet import fleet
from deploy.observability.dashboards.loop import LOOP
from deploy.observability.dashboards.model import MODEL
from deploy.observability.dashboards.serving import SERVING
from deploy.observability.panels import Board
from deploy.observability.rules import Objectives

__all__ = ["boards"]


def boards(objectives: Objectives) -> tuple[Board, ...]:
    """All dashboards, from the whole to the parts."""
    return (fleet(objectives), MODEL, SERVING, LOOP)
