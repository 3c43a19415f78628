"""The loop as a picture: seven stations on a ring, and where a turn stands among them."""

from __future__ import annotations

import math
from typing import Any

from monitoring.api import loop_models as m
from monitoring.console.loop_parts import Station
from monitoring.loop.contracts import Stage

WIDTH, HEIGHT = 760, 330
_RX, _RY = 252.0, 118.0
_CX, _CY = WIDTH / 2, HEIGHT / 2
_GAP = 30.0  # that an arrow leaves free on both sides of a station
_ASIDE = 0.6  # stations that lie further to the side than this share of the ring have their name beside them

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
        made.append(Station(key=key, name=name, hint=hint, state=state, path=_arrow(i), **_place(i)))
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


def _place(i: int) -> dict[str, Any]:
    """Middle of a station, and where its name stands: outside of the ring, so that no arrow crosses it."""
    angle = _angle(i)
    side, down = math.cos(angle), math.sin(angle)
    made: dict[str, Any] = {"x": round(_CX + _RX * side, 1), "y": round(_CY + _RY * down, 1)}
    if abs(side) > _ASIDE:
        return made | {"name_x": math.copysign(25, side), "name_y": 5.0, "anchor": "start" if side > 0 else "end"}
    return made | {"name_x": 0.0, "name_y": 35.0 if down > 0 else -25.0, "anchor": "middle"}


def _angle(i: int) -> float:
    """The first station is at the top, the others follow clockwise."""
    return -math.pi / 2 + 2 * math.pi * i / len(STATIONS)


def _arrow(i: int) -> str:
    """The arc of the ring from a station to the next."""
    begin, end = _angle(i) + _turn(_angle(i)), _angle(i + 1) - _turn(_angle(i + 1))
    x1, y1 = _CX + _RX * math.cos(begin), _CY + _RY * math.sin(begin)
    x2, y2 = _CX + _RX * math.cos(end), _CY + _RY * math.sin(end)
    return f"M{x1:.1f} {y1:.1f} A{_RX:g} {_RY:g} 0 0 1 {x2:.1f} {y2:.1f}"


def _turn(angle: float) -> float:
    """The gap as an angle: the ring is an ellipse, on which a radian is longer at top and bottom than at the sides."""
    return _GAP / math.hypot(_RX * math.sin(angle), _RY * math.cos(angle))
