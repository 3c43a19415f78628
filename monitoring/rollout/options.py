"""How models are rolled out. `deploy.settings_rollout` builds it; nothing here reads a file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from monitoring.rollout.policy import RolloutPolicy


@dataclass(frozen=True, kw_only=True, slots=True)
class RolloutOptions:
    """Policies by model.

    Attributes:
        policy: Of every model that `models` does not name.
        models: Of single ones.
    """

    policy: RolloutPolicy = field(default_factory=RolloutPolicy)
    models: Mapping[str, RolloutPolicy] = field(default_factory=dict)

    def of(self, model: str, *, disagreement: float | None = None) -> RolloutPolicy:
        """The policy of a model.

        Args:
            model: Its name.
            disagreement: What the gate saw; it counts where the settings expect nothing themselves.
        """
        policy = self.models.get(model, self.policy)
        if policy.disagreement is not None or disagreement is None:
            return policy
        return replace(policy, disagreement=disagreement)
