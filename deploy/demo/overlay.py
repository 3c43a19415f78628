"""Settings that the story needs, and `hardcase up` has by itself as long as it is about nothing but the demo's model.

Windows and dwell times are short because the whole story takes minutes, and a reviewer sits there who labels at once;
nothing else is different from what a model in production would have.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.paths import StatePaths
from deploy.settings_file import Loaded, load_settings
from export.contracts.errors import HardcaseError
from export.registry import Registry

TRAINER = MODEL = "digits"
VERSION = "1"  # of the demo's model, as it is made on the first start
SOURCE = "deploy.demo.train"  # ... which says so in its provenance
FAULTS = "trainer.json"  # in the state folder's `demo/`


def for_up(loaded: Loaded, registry: Registry, environ: Mapping[str, str]) -> Loaded:
    """Settings of an `up`: with the story's under its owner's, where nothing but the demo's model is there.

    So `hardcase demo` beside it tells the whole story in the console that is open already. A model of one's own ends
    this, at the next start; so do trainers of one's own. Keys that somebody has set are as they were set.

    Args:
        loaded: Its owner's settings.
        registry: Of its state folder.
        environ: Where they were overridden.
    """
    settings = loaded.settings
    if settings.storage.url or settings.retrain.trainers or not only_demo(registry):
        return loaded
    faults = StatePaths(loaded.state).demo / FAULTS
    return load_settings(loaded.file, environ, loaded.base, beneath=overlay(faults, quick=False))


def only_demo(registry: Registry) -> bool:
    """Whether a registry holds the demo's model, which the demo made, or nothing yet."""
    models = registry.models()
    if tuple(models) != (MODEL,):
        return not models
    try:
        return registry.package(MODEL, VERSION).manifest.provenance.source == SOURCE
    except HardcaseError:
        return False


def overlay(faults: Path, *, quick: bool) -> dict[str, Any]:
    """Sections and keys, as they would stand in `hardcase.yaml`.

    Args:
        faults: File that the demo's trainer reads.
        quick: For the short form of the story.
    """
    trainer = {
        "name": TRAINER,
        "models": [MODEL],
        "program": ["python", "-m", "deploy.demo.trainer", "--faults", str(faults)],
        "budget_s": 600.0,
        "silence_s": 300.0,
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
            "models": [
                {
                    **{"model": MODEL, "alarm": True, "failures": 60, "slice_failures": 0, "match": "all"},
                    **{"min_labels": 60, "cool_down_s": 5.0, "budget": 50},
                }
            ],
        },
        "gate": {"audited_s": 600.0, "budgets": {"latency_ms": 25.0}},  # two cores that also serve, and read the log
        "rollout": {
            "models": [
                {
                    "model": MODEL,
                    "steps": steps(quick=quick),
                    # While the champion is wrong about almost everything, a better version must answer otherwise.
                    "disagreement": 0.95,
                    "latency_floor_ms": 50.0,  # two cores that also train
                    "fresh_s": 20.0,
                }
            ]
        },
    }


def steps(*, quick: bool) -> list[dict[str, Any]]:
    """Of a roll-out: in the shadow, one request in a hundred, then all but one in twenty."""
    dwell_s, answered = (3.0, 5) if quick else (10.0, 10)
    return [
        {"kind": "shadow", "percent": 100.0, "dwell_s": dwell_s, "requests": 200, "prove": ["errors", "invalid"]},
        {"kind": "canary", "percent": 1.0, "dwell_s": dwell_s, "requests": answered},
        {"kind": "champion", "percent": 5.0, "dwell_s": dwell_s, "requests": 100},
    ]
