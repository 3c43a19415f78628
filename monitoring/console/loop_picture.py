"""The loop as a picture: seven stations on a ring, and where a turn stands among them."""

from __future__ import annotations

import math

from monitoring.api import loop_models as m
from monitoring.console.loop_parts import Station
from monitoring.loop.contracts import Stage

WIDTH, HEIGHT = 760, 330
_RX, _RY = 285.0, 112.0
_CX, _CY = WIDTH / 2, HEIGHT / 2 - 8
_GAP = 0.155  # of the ring, in radians, that an arrow leaves free on both sides of a station

STATIONS = (
    ("watch", "Traffic", "Requests are answered, recorded and watched."),
    ("label", "Labels", "People and clients say what was right."),
    ("trigger", "Trigger", "The policy decides whether a training is worth it."),
    ("train", "Training", "A trainer makes a package from a snapshot."),
    ("gate", "Gate", "The candidate must be surely better, and worse nowhere."),
    ("rollout", "Roll-out", "Shadow, canary, champion; evidence at every step."),
    ("champion", "Champion", "It answers everybody."),
)
_AT = {
    Stage.ASKED: 2,
    Stage.REQUESTED: 3,
    Stage.TRAINING: 3,
    Stage.TRAINED: 4,
    Stage.GATING: 4,
    Stage.GATED: 5,
    Stage.ROLLING_OUT: 5,
    Stage.PROMOTED: 6,
    Stage.REJECTED: 4,
    Stage.ROLLED_BACK: 5,
}
TONES = {
    Stage.PROMOTED: "good",
    Stage.REJECTED: "warn",
    Stage.ROLLED_BACK: "warn",
    Stage.FAILED: "bad",
    Stage.CANCELLED: "muted",
}
WORDS = {
    Stage.ASKED: "waits for approval",
    Stage.REQUESTED: "makes the snapshot",
    Stage.TRAINING: "trains",
    Stage.TRAINED: "is admitted",
    Stage.GATING: "is judged",
    Stage.GATED: "passed the gate",
    Stage.ROLLING_OUT: "is rolled out",
    Stage.PROMOTED: "is the champion",
    Stage.REJECTED: "did not pass the gate",
    Stage.ROLLED_BACK: "was rolled back",
    Stage.FAILED: "failed",
    Stage.CANCELLED: "was cancelled",
}


def stations(turn: m.Turn | None) -> tuple[Station, ...]:
    """The ring for a turn; where there is none, traffic is watched."""
    at, ended = (0, False) if turn is None else (station_of(turn), turn.stage.ended)
    promoted = turn is not None and turn.stage is Stage.PROMOTED
    made = []
    for i, (key, name, hint) in enumerate(STATIONS):
        state = ""
        if turn is None:
            state = "now" if i == 0 else ""
        elif i < at or promoted:
            state = "done"
        elif i == at:
            state = "ended" if ended else "now"
        x, y = _place(i)
        made.append(Station(key=key, name=name, hint=hint, state=state, x=x, y=y, path=_arrow(i)))
    return tuple(made)


def station_of(turn: m.Turn) -> int:
    """Index of the station where a turn stands, or where it ended."""
    if turn.stage in _AT:
        return _AT[turn.stage]
    if turn.rollout:
        return 5
    if turn.gate or turn.trained_at is not None:
        return 4
    return 3 if turn.requested_at is not None else 2


def _place(i: int) -> tuple[float, float]:
    angle = _angle(i)
    return round(_CX + _RX * math.cos(angle), 1), round(_CY + _RY * math.sin(angle), 1)


def _angle(i: int) -> float:
    """The first station is at the top, the others follow clockwise."""
    return -math.pi / 2 + 2 * math.pi * i / len(STATIONS)


def _arrow(i: int) -> str:
    """The arc of the ring from a station to the next."""
    begin, end = _angle(i) + _GAP, _angle(i + 1) - _GAP
    x1, y1 = _CX + _RX * math.cos(begin), _CY + _RY * math.sin(begin)
    x2, y2 = _CX + _RX * math.cos(end), _CY + _RY * math.sin(end)
    return f"M{x1:.1f} {y1:.1f} A{_RX:g} {_RY:g} 0 0 1 {x2:.1f} {y2:.1f}"
