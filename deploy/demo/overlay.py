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
            "reports": {"every_s": 0, "at_alarms": False},
        },
        "retrain": {"trainers": [trainer]},
    }


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
