"""The monitor drives roll-outs, by the settings of each model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deploy.settings_file import parse_settings
from deploy.settings_rollout import rollout_options
from monitoring.cycle import make_loop
from monitoring.loop.contracts import Workshop
from monitoring.rollout.policy import Metric, RolloutPolicy, StepKind
from monitoring.store import Store
from tests.support import monitor_world as w
from tests.support.rollout_world import MemoryPlans


def test_a_monitor_with_a_workshop_has_the_duty(tmp_path: Path) -> None:
    unused: Any = None
    shop = Workshop(jobs=unused, candidates=unused, plans=MemoryPlans(), folder=tmp_path, datasets=tmp_path)
    options = w.options(tmp_path)
    store = Store(options.database_url)
    assert "rollout" in make_loop(options, store, w.MemoryCatalogue((w.manifest(),)), shop).roster.states
    store.close()


def test_settings_reach_the_policy_of_a_model() -> None:
    text = """
    rollout:
      false_rollback: 0.02
      limits:
        - {metric: errors, tolerance: 0.02, margin: 0.1}
      models:
        - model: digits
          steps:
            - {kind: canary, percent: 1, dwell_s: 5, requests: 3, prove: [errors]}
            - {kind: champion, percent: 10, dwell_s: 30}
    """
    made = rollout_options(parse_settings(text).rollout)
    assert made.policy.alpha == 0.02
    assert made.policy.limit(Metric.ERRORS).margin == 0.1
    assert made.policy.steps == RolloutPolicy().steps
    own = made.of("digits", disagreement=0.1)
    assert [step.kind for step in own.steps] == [StepKind.CANARY, StepKind.CHAMPION]
    assert (own.disagreement, own.alpha) == (0.1, 0.01)
