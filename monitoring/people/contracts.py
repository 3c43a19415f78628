"""Roles, and who asks. `monitoring.api.security.Guard` puts the `Principal` into `request.state.principal`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What somebody may do; each includes those before it."""

    VIEWER = "viewer"  # reads
    REVIEWER = "reviewer"  # decides about cases
    OPERATOR = "operator"  # alarms, silences, reports, slices, batches, rollouts
    ADMIN = "admin"  # people, keys, settings

    def covers(self, needed: Role) -> bool:
        """Whether this role may do what `needed` may."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """Who asks.

    Attributes:
        name: As in the audit trail: a user's name, "key:" + an API key's name, or LOCAL.
        role: What they may do.
    """

    name: str
    role: Role


LOCAL = Principal(name="local", role=Role.ADMIN)
"""Whoever reaches a console on loopback that asks for no credential."""
SHARED = Principal(name="token", role=Role.ADMIN)
"""Whoever shows a token of the settings."""
