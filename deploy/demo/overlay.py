"""Settings that the story needs, as environment variables of the `hardcase up` that it starts.

Windows and dwell times are short because the whole story takes minutes, and a reviewer sits there who labels at once;
nothing else is different from what a model in production would have.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

TRAINER = "digits"


def overlay(faults: Path, *, quick: bool) -> dict[str, Any]:
    """Sections and keys, as they would stand in `hardcase.yaml`.

    Args:
        faults: File that the demo's trainer reads.
        quick: For the short form of the story.
    """
    trainer = {
        "name": TRAINER,
        "models": ["digits"],
        "program": ["python", "-m", "deploy.demo.trainer", "--faults", str(faults)],
        "budget_s": 240.0,
        "silence_s": 120.0,
        "nice": 5,
    }
    return {
        "monitor": {
            "window_s": 5,
            "lateness_s": 2.0,
            # Half of what the reviewer sees are random audit items: alarm and gate live on them.
            "cases": {"audit_floor": 0.5, "audit_rate": 0.05, "audits_per_window": 20, "scored_per_window": 20},
            "alarms": {"interval_s": 0.5},
            "slices": {"every_windows": 12, "records": 20_000},  # a minute, not half of one, of 70,000
            "reports": {"every_s": 0, "at_alarms": False},
        },
        "retrain": {
            "trainers": [trainer],
            # The alarm, and enough labels to learn from and to judge by: half of the audit items, a quarter of all
            # labels, are the gate's. Tried again soon, because the story has no hours to wait.
            "policy": {
                **{"alarm": True, "failures": 60, "slice_failures": 0, "match": "all", "min_labels": 60},
                **{"cool_down_s": 5.0, "budget": 50},
            },
        },
        "gate": {"audited_s": 600.0},
        "rollout": {
            "steps": steps(quick=quick),
            # While the champion is wrong about almost everything, a better version must answer otherwise.
            "disagreement": 0.95,
            "latency_floor_ms": 50.0,  # two cores that also train
            "fresh_s": 20.0,
        },
    }


def steps(*, quick: bool) -> list[dict[str, Any]]:
    """Of a roll-out: in the shadow, one request in a hundred, then all but one in twenty."""
    dwell_s = 5.0 if quick else 10.0
    return [
        {"kind": "shadow", "percent": 100.0, "dwell_s": dwell_s, "requests": 200, "prove": ["errors", "invalid"]},
        {"kind": "canary", "percent": 1.0, "dwell_s": dwell_s, "requests": 10},
        {"kind": "champion", "percent": 5.0, "dwell_s": dwell_s, "requests": 100},
    ]


def variables(settings: Mapping[str, Any]) -> dict[str, str]:
    """The same as `HARDCASE__SECTION__KEY` variables.

    Example:
        >>> variables({"monitor": {"window_s": 5, "cases": {"audit_floor": 0.5}}})
        {'HARDCASE__MONITOR__WINDOW_S': '5', 'HARDCASE__MONITOR__CASES__AUDIT_FLOOR': '0.5'}
    """
    return {
        "HARDCASE__" + "__".join(part.upper() for part in key): json.dumps(value) for key, value in _leaves(settings)
    }


def _leaves(settings: Mapping[str, Any], key: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*key, name))
        else:
            yield (*key, name), value
