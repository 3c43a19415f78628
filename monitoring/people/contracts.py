"""Roles, and who asks. `monitoring.api.security.Guard` puts the `Principal` into `request.state.principal`."""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum

NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,59}")
RESERVED = frozenset({"local", "token", "nobody"})


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


class SignIn(StrEnum):
    """When somebody has to say who they are."""

    AUTO = "auto"  # as soon as there is a user or a token, or the console can be reached from a network
    ALWAYS = "always"  # from the first start on: a one-time link makes the first admin


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """Who asks.

    Attributes:
        name: As in the audit trail: a user's name, "key:" + an API key's name, or LOCAL.
        role: What they may do.
        models: The only models that they may see or change; empty: every one.
        user: Row of `users`; None for keys, tokens, and LOCAL.
        session: Row of `sessions`; None without one.
    """

    name: str
    role: Role
    models: tuple[str, ...] = ()
    user: int | None = None
    session: int | None = None

    def sees(self, model: str) -> bool:
        """Whether a model is theirs to see."""
        return not self.models or model in self.models


LOCAL = Principal(name="local", role=Role.ADMIN)
"""Whoever reaches a console on loopback that asks for no credential."""
SHARED = Principal(name="token", role=Role.ADMIN)
"""Whoever shows a token of the settings."""
NOBODY = Principal(name="nobody", role=Role.VIEWER, models=("",))
"""Whoever signs in, and is not yet known: sees no model."""

ASKING: ContextVar[Principal] = ContextVar("asking", default=LOCAL)
"""Who asks, for code that is far from the request. The Guard sets it; outside a request it is LOCAL."""
