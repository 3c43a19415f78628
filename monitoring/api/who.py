"""Who asks, and whether they may: one dependency for every operation that changes something."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from export.contracts.errors import Forbidden
from monitoring.people.contracts import LOCAL, SHARED, Principal, Role


def signed(who: Principal, author: str) -> str:
    """Under which name something is done: a credential's own. Without one, whoever says they do it."""
    return author if author and who.name in (LOCAL.name, SHARED.name) else who.name


@dataclass(frozen=True, slots=True)
class Needs:
    """A dependency that gives the `Principal` and refuses one whose role does not cover `role`."""

    role: Role

    def __call__(self, request: Request) -> Principal:
        """Who asks.

        Raises:
            Forbidden: names the role that is needed.
        """
        principal = request.state.principal
        assert isinstance(principal, Principal)
        if not principal.role.covers(self.role):
            raise Forbidden(f"this needs the role '{self.role}'; {principal.name} is '{principal.role}'")
        return principal


Viewer = Annotated[Principal, Depends(Needs(Role.VIEWER))]
Reviewer = Annotated[Principal, Depends(Needs(Role.REVIEWER))]
Operator = Annotated[Principal, Depends(Needs(Role.OPERATOR))]
Admin = Annotated[Principal, Depends(Needs(Role.ADMIN))]
